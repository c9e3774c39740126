use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::*;

const BOTH: [Compression; 2] = [Compression::Snappy, Compression::Gzip];

/// A body that comes in pieces of this size, with trailers.
fn body(
    bytes: &[u8],
    piece: usize,
) -> impl http_body::Body<Data = Bytes, Error = Status> + Unpin + use<> {
    let pieces: Vec<_> = bytes
        .chunks(piece)
        .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
        .chain([Ok(Frame::trailers(http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )])))])
        .collect();
    StreamBody::new(stream::iter(pieces))
}

fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], content].concat()
}

fn packed(compression: Compression, content: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    compression.pack(content, &mut packed).unwrap();
    packed
}

/// What comes out of a body, or what the other side is told.
async fn unpack(bytes: &[u8], compression: Compression, room: impl Room + Unpin) -> Outcome {
    let collected = Unpacked::new(body(bytes, 7), compression, room).collect().await;
    match collected {
        Ok(whole) => {
            assert!(whole.trailers().is_some());
            Ok(whole.to_bytes().to_vec())
        }
        Err(error) => Err(error.downcast_ref::<Status>().expect("a status").clone()),
    }
}

type Outcome = Result<Vec<u8>, Status>;

#[tokio::test]
async fn messages_come_out_as_they_went_in() {
    let large: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
    let contents = [b"one".to_vec(), Vec::new(), large, b"last".to_vec()];
    let plain: Vec<u8> = contents.iter().flat_map(|content| message(0, content)).collect();
    for compression in BOTH {
        for piece in [1, 4, 1000, usize::MAX] {
            let whole = Packed::new(body(&plain, piece), compression).collect().await.unwrap();
            assert!(whole.trailers().is_some());
            let packed = whole.to_bytes();
            assert!(packed.len() < plain.len() / 4 * 3, "{compression:?} {}", packed.len());
            let back = unpack(&packed, compression, UpTo(1 << 21)).await.unwrap();
            assert!(back == plain, "{compression:?} in pieces of {piece}");
        }
        let mixed = [message(0, b"as it is"), message(1, b"")].concat();
        let expected = [message(0, b"as it is"), message(0, b"")].concat();
        match compression {
            Compression::Snappy => {
                assert_eq!(unpack(&mixed, compression, UpTo(100)).await.unwrap(), expected);
            }
            // nothing is not gzip
            Compression::Gzip => {
                assert!(unpack(&mixed, compression, UpTo(100)).await.is_err());
            }
        }
    }
}

#[tokio::test]
async fn hostile_messages_are_refused_with_the_reason() {
    let bomb = vec![0; 10 << 20];
    for compression in BOTH {
        let good = packed(compression, b"some content");
        let mut damaged = packed(compression, &[7; 1000]);
        let middle = damaged.len() - 6;
        damaged[middle] ^= 0xff;
        let lie = [&[1, 0xff, 0xff, 0xff, 0xff], &good[..]].concat();
        let table = [
            (message(1, &packed(compression, &bomb)), "more than 1048576 bytes"),
            (message(0, &vec![0; (1 << 20) + 1]), "1048577 bytes is announced"),
            (lie, "4294967295 bytes is announced"),
            (message(1, b"neither"), compression.name()),
            (message(1, &good[..good.len() - 3]), compression.name()),
            (message(1, &damaged), compression.name()),
            (message(2, &good), "Some(2)"),
            (message(1, &good)[..7].to_vec(), "in the middle"),
            (vec![1, 0], "in the middle"),
        ];
        for (bytes, part) in table {
            let error = unpack(&bytes, compression, UpTo(1 << 20)).await.unwrap_err();
            assert!(error.message().contains(part), "{compression:?}: {part}: {error}");
        }
    }
}

/// Room that notes what it was asked for.
struct Noted<'a> {
    charged: &'a mut usize,
    most: usize,
}

impl Room for Noted<'_> {
    fn limit(&self) -> usize {
        usize::MAX
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Status> {
        *self.charged += bytes;
        if *self.charged <= self.most {
            return Ok(());
        }
        Err(Status::resource_exhausted("no room"))
    }
}

#[tokio::test]
async fn memory_is_asked_for_before_it_is_taken() {
    for compression in BOTH {
        let bytes = message(1, &packed(compression, &vec![3; 10 << 20]));
        let mut charged = 0;
        let room = Noted { charged: &mut charged, most: usize::MAX };
        let length = unpack(&bytes, compression, room).await.unwrap().len();
        assert!((length - 10..2 * length).contains(&charged), "{charged} for {length}");
        charged = 0;
        let room = Noted { charged: &mut charged, most: 1 << 20 };
        let error = unpack(&bytes, compression, room).await.unwrap_err();
        assert_eq!(error.message(), "no room");
        assert!(charged <= 3 << 20, "{charged}");
    }
}

#[test]
fn names_of_headers_are_read() {
    let value = |text: &str| HeaderValue::from_str(text).unwrap();
    assert_eq!(Compression::named(&value("snappy")), Some(Compression::Snappy));
    assert_eq!(Compression::named(&value("zstd")), None);
    assert!(Compression::Gzip.is_in(&value("identity, gzip")));
    assert!(!Compression::Snappy.is_in(&value("snappyx,gzip")));
}

/// What `snappy.NewBufferedWriter` of klauspost/compress, which Thanos uses, writes: one chunk that
/// is compressed, and one that did not shrink.
#[test]
fn frames_of_go_are_read() {
    const START: &[u8] = b"\xff\x06\x00\x00sNaPpY";
    let chunks: [(&[u8], &[u8]); 2] = [
        (
            b"\x00\x0f\x00\x00\xfd\xdb\xaf\xb3)\x14hello \x8a\x06\x00",
            b"hello hello hello hello hello hello hello",
        ),
        (b"\x01\x05\x00\x00P=\xaaax", b"x"),
    ];
    for (chunk, content) in chunks {
        let mut back = Vec::new();
        let framed = [START, chunk].concat();
        Compression::Snappy.unpack(&framed, &mut back, &mut UpTo(100)).unwrap();
        assert_eq!(back, content);
    }
}
