//! Requests of callers that want too much.

use bytes::Bytes;
use wire::thanos::{LabelMatcher, SeriesRequest};

/// A request over gRPC. Its matchers and labels are also those of requests for names and values of
/// labels. It is refused with limit and cost, and takes no more memory than some times its length.
#[derive(Clone, Copy, Debug)]
pub struct HostileCall {
    pub name: &'static str,
    pub does: &'static str,
    pub message: fn() -> SeriesRequest,
    /// What the refusal says.
    pub refusal: &'static str,
}

/// A form sent to the HTTP API.
#[derive(Clone, Copy, Debug)]
pub struct HostileForm {
    pub name: &'static str,
    pub does: &'static str,
    /// Paths below `/api/v1`.
    pub paths: &'static [&'static str],
    pub body: fn() -> String,
    pub status: u16,
    /// What the error says; of an answer, nothing.
    pub says: &'static str,
    /// The most MiB that the caller and the querier may take, of which the form is a part.
    pub most_mib: usize,
}

/// The type of a matcher that is a regular expression.
const REGEX: i32 = 2;

pub const CALLS: &[HostileCall] = &[
    HostileCall {
        name: "large_regexes",
        does: "a thousand regexes of which each compiles to megabytes",
        message: || request(1000, REGEX, ".{999}|"),
        refusal: "microseconds (estimated) of compiling regular expressions",
    },
    HostileCall {
        name: "wide_regexes",
        does: "300 regexes of classes of Unicode",
        message: || request(300, REGEX, r"\pL{200}"),
        refusal: "microseconds (estimated) of compiling regular expressions",
    },
    HostileCall {
        name: "huge_value",
        does: "one value that is longer than a request may be",
        message: || request(1, 0, &"a".repeat(20 << 20)),
        refusal: "decoded message length too large",
    },
    HostileCall {
        name: "long_values",
        does: "values that are longer together than those of one request may be",
        message: || request(85, 0, &"a".repeat(100_000)),
        refusal: "bytes of matchers, more than the limit of",
    },
    HostileCall {
        name: "many_alternatives",
        does: "half a million alternatives of a letter",
        message: || request(1, REGEX, &"a|".repeat(500_000)),
        refusal: "bytes of matchers, more than the limit of",
    },
    HostileCall {
        name: "a_million_matchers",
        does: "a million matchers",
        message: || request(1_000_000, 0, ""),
        refusal: "1000002 parts, such as matchers and labels, more than the limit of",
    },
    HostileCall {
        name: "many_matchers",
        does: "more matchers than one request may have",
        message: || request(15_000, 0, "b"),
        refusal: "10001 matchers, more than the limit of 10000",
    },
    HostileCall {
        name: "many_replica_labels",
        does: "more replica labels than one request may have",
        message: || SeriesRequest {
            without_replica_labels: (0..15_000).map(|i| format!("replica_{i}")).collect(),
            ..request(1, 0, "b")
        },
        refusal: "15000 names of replica labels and shards, more than the limit of 1000",
    },
];

/// Every path that takes selectors.
const SELECTING: &[&str] = &["labels", "series"];

pub const FORMS: &[HostileForm] = &[
    HostileForm {
        name: "wide_regexes",
        does: "300 selectors with regexes of classes of Unicode",
        paths: SELECTING,
        body: || r"match[]={a=~%22%5C%5CpL{200}%22}&".repeat(300),
        status: 400,
        says: "microseconds (estimated) of compiling regular expressions, more than the limit of",
        most_mib: 160,
    },
    HostileForm {
        name: "wide_store_regexes",
        does: "300 selectors of stores with regexes of classes of Unicode",
        paths: &["labels", "series", "query"],
        body: || {
            let stores = r"storeMatch[]={a=~%22%5C%5CpL{200}%22}&".repeat(300);
            format!("match[]=up&query=up&{stores}")
        },
        status: 400,
        says: "microseconds (estimated) of compiling regular expressions, more than the limit of",
        most_mib: 160,
    },
    HostileForm {
        name: "many_selectors",
        does: "300 selectors, of which each asks all stores",
        paths: SELECTING,
        body: || (0..300).map(|i| format!("match[]={{job!=%22{i}%22,job=~%22.%2B%22}}&")).collect(),
        status: 200,
        says: "",
        most_mib: 64,
    },
    HostileForm {
        name: "too_many_selectors",
        does: "more matchers than one request may have",
        paths: SELECTING,
        body: || "match[]=up&".repeat(15_000),
        status: 400,
        says: "10001 matchers, more than the limit of 10000 per request",
        most_mib: 64,
    },
    HostileForm {
        name: "too_many_matchers_in_a_query",
        does: "a query with more matchers than one request may have",
        paths: &["query"],
        body: || format!("query=up{{{}}}", "a!=%22b%22,".repeat(15_000)),
        status: 400,
        says: "10001 matchers, more than the limit of 10000 per request",
        most_mib: 64,
    },
    HostileForm {
        name: "many_replica_labels",
        does: "15,000 names of replica labels",
        paths: &["query", "series"],
        body: || {
            let labels: String = (0..15_000).map(|i| format!("replicaLabels[]=r{i}&")).collect();
            format!("query=up&match[]=up&{labels}")
        },
        status: 400,
        says: "15000 names of replica labels and shards, more than the limit of 1000",
        most_mib: 96,
    },
    HostileForm {
        name: "one_replica_label",
        does: "the name of one replica label 15,000 times",
        paths: &["query", "series"],
        body: || format!("query=up&match[]=up&{}", "replicaLabels[]=replica&".repeat(15_000)),
        status: 200,
        says: "",
        most_mib: 64,
    },
    HostileForm {
        name: "millions_of_parameters",
        does: "a form of parameters of one letter, as long as a form may be",
        paths: &["query", "query_range", "series", "labels", "format_query"],
        body: || "a&".repeat(5 << 20),
        status: 400,
        says: "5242880 parameters, more than the limit of 20000 per request",
        most_mib: 64,
    },
];

/// A request for a span in which there is data, with so many more matchers of this kind.
fn request(count: usize, kind: i32, value: &str) -> SeriesRequest {
    let matcher = |kind, name: &'static str, value: Bytes| LabelMatcher {
        r#type: kind,
        name: Bytes::from_static(name.as_bytes()),
        value,
    };
    let mut matchers = vec![matcher(0, "__name__", Bytes::from_static(b"up"))];
    let more = matcher(kind, "a", Bytes::from(value.to_owned()));
    matchers.extend(std::iter::repeat_n(more, count));
    SeriesRequest { max_time: 10_000, matchers, ..SeriesRequest::default() }
}
