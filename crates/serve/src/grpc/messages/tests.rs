use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use model::Budget;
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::compression::UpTo;
use crate::conn::Wish;

/// Sends back what it gets, with the encoding it was told; errors as a status without a body.
async fn echo(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let told = request.headers().get(ENCODING).cloned();
    let mut response = match request.into_body().collect().await {
        Ok(whole) => Response::new(Body::new(Full::new(whole.to_bytes()))),
        Err(error) => {
            let status = Status::from_error(error.into());
            status.into_http()
        }
    };
    if let Some(told) = told {
        response.headers_mut().insert("told", told);
    }
    Ok(response)
}

async fn ask(budget: Budget, request: Request<Body>) -> Response<Body> {
    let bodies = Bodies::new(&budget, watch::Sender::new(Wish::Serve)).unwrap();
    let layer = MessagesLayer { bodies, patience: Duration::from_secs(10) };
    let Ok(response) = layer.layer(tower::service_fn(echo)).oneshot(request).await;
    response
}

fn message(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[0], &length[..], content].concat().into()
}

async fn packed(compression: Compression, content: &[u8]) -> Bytes {
    let plain = Full::new(message(content));
    Packed::new(plain, compression).collect().await.unwrap().to_bytes()
}

fn request(body: Bytes, encoding: &str, accepted: &str) -> Request<Body> {
    let mut request = Request::builder();
    for (name, value) in [(ENCODING, encoding), (ACCEPTED, accepted)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    request.body(Body::new(Full::new(body))).unwrap()
}

#[tokio::test]
async fn who_compresses_and_can_unpack_gets_compressed_answers() {
    let content = [7; 10_000];
    for compression in [Compression::Snappy, Compression::Gzip] {
        let (name, body) = (compression.name(), packed(compression, &content).await);
        let table = [
            (body.clone(), name, "identity,gzip,snappy", true),
            (body.clone(), name, name, true),
            (body, name, "identity", false),
            (message(&content), "", name, false),
            // a message that is not compressed may come with the header
            (message(&content), name, name, true),
        ];
        for (body, encoding, accepted, is_compressed) in table {
            let answer = ask(Budget::unlimited(), request(body, encoding, accepted)).await;
            assert!(answer.headers()[ACCEPTED].to_str().unwrap().contains(name));
            let used = answer.headers().get(ENCODING).and_then(Compression::named);
            let answered = answer.into_body();
            let plain = match used {
                None => answered.collect().await.unwrap().to_bytes(),
                Some(used) => {
                    let unpacked = Unpacked::new(answered, used, UpTo(1 << 20));
                    unpacked.collect().await.unwrap().to_bytes()
                }
            };
            assert_eq!(used, is_compressed.then_some(compression), "{encoding} {accepted}");
            assert!(plain == message(&content), "{encoding} {accepted}");
        }
    }
}

#[tokio::test]
async fn what_is_unknown_is_left_to_tonic() {
    let answer = ask(Budget::unlimited(), request(message(b"x"), "zstd", "zstd")).await;
    assert_eq!(answer.headers()["told"], "zstd");
    assert!(!answer.headers().contains_key(ENCODING));
}

#[tokio::test]
async fn what_is_unpacked_is_charged_and_limited() {
    // a sixteenth of it is for requests
    let budget = || Budget::new(64 << 20);
    let table = [
        (Budget::unlimited(), vec![0; 8 << 20], None),
        (Budget::unlimited(), vec![0; 10 << 20], Some("holds more than 9437184 bytes")),
        (budget(), vec![0; 1 << 20], None),
        (budget(), vec![0; 6 << 20], Some("--memory-budget")),
    ];
    for compression in [Compression::Snappy, Compression::Gzip] {
        for (budget, content, refused) in &table {
            let body = packed(compression, content).await;
            let name = compression.name();
            let answer = ask(budget.clone(), request(body, name, name)).await;
            let status = Status::from_header_map(answer.headers());
            let told = status.as_ref().map(|status| status.message().to_owned());
            match refused {
                None => assert_eq!(told, None),
                Some(part) => {
                    assert!(told.as_ref().is_some_and(|told| told.contains(part)), "{told:?}");
                    // a status in the head, as clients of Go need it
                    assert!(!answer.headers().contains_key(ENCODING));
                    assert!(http_body::Body::is_end_stream(answer.body()));
                }
            }
        }
    }
}
