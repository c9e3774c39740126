//! Headers of our own on uploads to S3, such as an ACL. S3 wants them signed, and the client signs
//! before it hands a request on, so the request is signed again.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

const CONTENT_HASH: &str = "x-amz-content-sha256";

/// The headers, and what it takes to sign them.
#[derive(Clone)]
pub(crate) struct UploadHeaders {
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) credentials: AwsCredentialProvider,
    pub(crate) region: String,
}

impl fmt::Debug for UploadHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadHeaders").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl UploadHeaders {
    async fn add_to(&self, request: &mut HttpRequest) -> Result<(), object_store::Error> {
        let credential = self.credentials.get_credential().await?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request.headers_mut().remove(AUTHORIZATION);
        let hash = request.headers().get(CONTENT_HASH).and_then(|hash| hash.to_str().ok());
        let hash = hash.and_then(from_hex);
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(hash.is_some())
            .authorize(request, hash.as_ref().map(<[u8; 32]>::as_slice));
        Ok(())
    }
}

/// Whether a request creates an object, or begins to.
fn is_upload(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match request.method().as_str() {
        "PUT" => !has("partNumber"),
        "POST" => has("uploads"),
        _ => false,
    }
}

/// The 32 bytes of a hash; what is no hash says that the body is not signed.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(hash)
}

/// Makes clients that add the headers.
#[derive(Debug)]
pub(crate) struct HeaderConnector<C> {
    pub(crate) inner: C,
    pub(crate) upload: Arc<UploadHeaders>,
}

impl<C: HttpConnector> HttpConnector for HeaderConnector<C> {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = self.inner.connect(options)?;
        Ok(HttpClient::new(HeaderService { inner, upload: Arc::clone(&self.upload) }))
    }
}

#[derive(Debug)]
struct HeaderService {
    inner: HttpClient,
    upload: Arc<UploadHeaders>,
}

#[async_trait]
impl HttpService for HeaderService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if is_upload(&request) {
            let added = self.upload.add_to(&mut request).await;
            added.map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        }
        self.inner.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;
    use http::StatusCode;
    use object_store::aws::AmazonS3Builder;
    use object_store::path::Path;
    use object_store::{ObjectStoreExt, StaticCredentialProvider};

    use super::*;

    /// Keeps requests and answers that they succeeded.
    #[derive(Clone, Debug, Default)]
    struct Recorder(Arc<Mutex<Vec<HttpRequest>>>);

    impl HttpConnector for Recorder {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            Ok(HttpClient::new(self.clone()))
        }
    }

    #[async_trait]
    impl HttpService for Recorder {
        async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
            let upload = "<InitiateMultipartUploadResult><UploadId>u</UploadId>\
                </InitiateMultipartUploadResult>";
            self.0.lock().unwrap().push(request);
            let answer = http::Response::builder().status(StatusCode::OK).header("etag", "\"e\"");
            Ok(answer.body(Bytes::from_static(upload.as_bytes()).into()).unwrap())
        }
    }

    #[tokio::test]
    async fn uploads_carry_the_headers_under_the_signature_and_others_do_not() {
        let keys = object_store::aws::AwsCredential {
            key_id: "id".to_owned(),
            secret_key: "secret".to_owned(),
            token: None,
        };
        let upload = Arc::new(UploadHeaders {
            headers: vec![(
                HeaderName::from_static("x-amz-acl"),
                HeaderValue::from_static("bucket-owner-full-control"),
            )],
            credentials: Arc::new(StaticCredentialProvider::new(keys)),
            region: "eu-west-1".to_owned(),
        });
        let recorder = Recorder::default();
        let store = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_region("eu-west-1")
            .with_access_key_id("id")
            .with_secret_access_key("secret")
            .with_http_connector(HeaderConnector { inner: recorder.clone(), upload })
            .build()
            .unwrap();
        let path = Path::from("a/b");
        store.put(&path, Bytes::from_static(b"whole").into()).await.unwrap();
        let mut parts = store.put_multipart(&path).await.unwrap();
        parts.put_part(Bytes::from_static(b"part").into()).await.unwrap();
        // what comes back is no object
        assert!(store.get(&path).await.is_err());
        let seen = recorder.0.lock().unwrap();
        let acl = |request: &HttpRequest| request.headers().contains_key("x-amz-acl");
        let signed = |request: &HttpRequest| {
            request.headers()[AUTHORIZATION].to_str().unwrap().contains("x-amz-acl")
        };
        let found: Vec<bool> = seen.iter().map(acl).collect();
        assert_eq!(found, [true, true, false, false], "put, begin, part, get");
        assert_eq!(seen.iter().map(signed).collect::<Vec<_>>(), found);
        assert_eq!(seen[0].headers()[CONTENT_HASH].len(), 64, "the body is signed too");
    }
}
