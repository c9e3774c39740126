//! Servers that say they are a Prometheus.

use super::{Body, HostileAnswer};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedPrometheus {
    /// Samples, by remote read.
    Series,
    /// Label sets without samples.
    LabelSets,
    LabelNames,
    LabelValues,
    /// External labels.
    Configuration,
    /// How far back its data goes.
    Metrics,
}

/// An answer of a Prometheus. What must hold: memory stays within the budget, and the request fails
/// with this text, or, where there is none, ends well with what could be read.
#[derive(Clone, Debug)]
pub struct HostilePrometheus {
    pub asked: AskedPrometheus,
    pub answer: HostileAnswer,
    pub fails_with: Option<&'static str>,
}

const MIB: usize = 1 << 20;

/// A field of a message that has a length: its tag, the length, the bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len()), bytes].concat()
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A frame of remote read: length, checksum, message.
fn frame(message: &[u8]) -> Vec<u8> {
    [&varint(message.len())[..], &crc32c::crc32c(message).to_be_bytes(), message].concat()
}

/// A series of remote read with a label `a` of this value and with these further fields.
fn series(value: &[u8], fields: &[u8]) -> Vec<u8> {
    let label = [field(1, b"a"), field(2, value)].concat();
    field(1, &[field(1, &label), fields.to_vec()].concat())
}

/// A snappy block whose one element stands for all of its bytes, which are these.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let last = (bytes.len() as u32 - 1).to_le_bytes();
    [&varint(bytes.len())[..], &[63 << 2], &last, bytes].concat()
}

/// All of them.
pub fn prometheus() -> Vec<HostilePrometheus> {
    [remote_reads(), json()].concat()
}

fn remote_reads() -> Vec<HostilePrometheus> {
    let chunked = |name, body| {
        let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        HostileAnswer::new(name, "200 OK", &[("content-type", content_type)]).with(body)
    };
    let samples = |name, message: Vec<u8>| {
        HostileAnswer::new(name, "200 OK", &[("content-type", "application/x-protobuf")])
            .with(Body::whole(snappy(&message)))
    };
    let row = |answer, fails_with| HostilePrometheus {
        asked: AskedPrometheus::Series,
        answer,
        fails_with: Some(fails_with),
    };
    // an empty chunk, label, sample or histogram is two bytes
    let chunk = field(2, &[]).repeat(8 * MIB);
    let label = field(1, &[]).repeat(8 * MIB);
    let many = |number| {
        let parts = field(number, &[]).repeat(8 * MIB);
        field(1, &field(1, &parts))
    };
    let large = series(&vec![b'x'; 32 * MIB], &[]);
    vec![
        row(
            chunked("a frame that never ends", Body::endless(varint(60 * MIB), vec![0; 64 << 10])),
            "memory budget",
        ),
        row(
            chunked("a frame that is too long", Body::stalls(varint(1 << 40))),
            "exceeds the limit",
        ),
        row(chunked("very many chunks", Body::whole(frame(&series(b"", &chunk)))), "memory budget"),
        row(chunked("very many labels", Body::whole(frame(&series(b"", &label)))), "memory budget"),
        row(chunked("a label of 32 MiB", Body::whole(frame(&large))), "memory budget"),
        row(samples("very many samples", many(2)), "memory budget"),
        row(samples("very many histograms", many(4)), "memory budget"),
    ]
}

fn json() -> Vec<HostilePrometheus> {
    use AskedPrometheus::{Configuration, LabelNames, LabelSets, LabelValues, Metrics};
    let row = |asked, name, body, fails_with| HostilePrometheus {
        asked,
        answer: HostileAnswer::new(name, "200 OK", &[("content-type", "application/json")])
            .with(body),
        fails_with,
    };
    let begin = br#"{"status":"success","data":["#.to_vec();
    let list = |item: &str, times: usize| {
        let items = format!("{item},").repeat(times);
        let text = format!(r#"{{"status":"success","data":[{items}{item}]}}"#);
        Body::whole(text.into_bytes())
    };
    let tight = Some("memory budget");
    let yaml = |text: String| {
        Body::whole(format!(r#"{{"status":"success","data":{{"yaml":"{text}"}}}}"#).into_bytes())
    };
    vec![
        row(
            LabelNames,
            "names without end",
            Body::endless(begin.clone(), b"\"a\",".repeat(16 << 10)),
            tight,
        ),
        row(LabelNames, "very many names", list("\"\"", 3 * MIB), tight),
        row(LabelValues, "very many values", list("\"\"", 3 * MIB), tight),
        row(LabelSets, "very many empty label sets", list("{}", 3 * MIB), tight),
        row(LabelSets, "very many label sets", list(r#"{"a":""}"#, MIB), tight),
        row(LabelSets, "one value without end", Body::endless(begin, vec![b' '; 64 << 10]), tight),
        row(
            Configuration,
            "a configuration of very many items",
            yaml("global:\\n  external_labels:\\n    a: [".to_owned() + &"a,".repeat(2 * MIB)),
            Some("external labels"),
        ),
        row(
            Configuration,
            "a configuration without end",
            Body::endless(
                br#"{"status":"success","data":{"yaml":""#.to_vec(),
                vec![b'a'; 64 << 10],
            ),
            tight,
        ),
        row(Metrics, "one line without end", Body::endless(Vec::new(), vec![b'a'; 64 << 10]), None),
    ]
}
