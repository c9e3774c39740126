//! Multipart uploads. Parts wait in memory; the object appears when the upload is completed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use object_store::{PutOptions, PutPayload};

use super::objects::{place, quoted, set_version};
use super::request::Request;
use super::{ServerAnswer, ServerFailure, ServerShared, respond, xml};

#[derive(Debug)]
pub(super) struct StartedUpload {
    key: String,
    parts: BTreeMap<u32, (String, Bytes)>,
}

/// Uploads under way by id, and the ids given so far.
#[derive(Debug)]
pub(super) struct Uploads(Mutex<(u64, HashMap<String, StartedUpload>)>);

impl Uploads {
    pub(super) fn new(uploads: HashMap<String, StartedUpload>) -> Uploads {
        Uploads(Mutex::new((0, uploads)))
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.lock().1.len()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<String, StartedUpload>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_such_upload(request: &Request) -> ServerFailure {
    let id = request.query("uploadId").unwrap_or_default();
    ServerFailure::new(
        StatusCode::NOT_FOUND,
        "NoSuchUpload",
        format!("upload {id:?} of {:?}", request.key),
    )
}

pub(super) fn create(shared: &ServerShared, request: &Request) -> ServerAnswer {
    let mut uploads = shared.uploads.lock();
    uploads.0 += 1;
    let id = format!("upload-{}", uploads.0);
    uploads
        .1
        .insert(id.clone(), StartedUpload { key: request.key.clone(), parts: BTreeMap::new() });
    let inner = xml::element("Bucket", &request.bucket) + &xml::element("Key", &request.key);
    let inner = inner + &xml::element("UploadId", &id);
    let mut response =
        respond(StatusCode::OK, Body::from(xml::document("InitiateMultipartUploadResult", &inner)));
    xml::mark(&mut response);
    Ok(response)
}

pub(super) fn put_part(shared: &ServerShared, request: Request) -> ServerAnswer {
    let number = request
        .query("partNumber")
        .and_then(|n| n.parse().ok())
        .filter(|n| (1..=10_000).contains(n));
    let number: u32 =
        number.ok_or_else(|| ServerFailure::invalid("part number must be between 1 and 10000"))?;
    if request.copy_source().is_some() {
        return Err(ServerFailure::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "parts copied from objects",
        ));
    }
    let mut uploads = shared.uploads.lock();
    uploads.0 += 1;
    let e_tag = format!("part-{}", uploads.0);
    let upload = uploads.1.get_mut(request.query("uploadId").unwrap_or_default());
    let upload = upload.filter(|u| u.key == request.key).ok_or_else(|| no_such_upload(&request))?;
    upload.parts.insert(number, (e_tag.clone(), request.body));
    let mut response = respond(StatusCode::OK, Body::empty());
    set_version(&mut response, Some(&e_tag))?;
    Ok(response)
}

/// The parts the client names, in its order.
fn named_parts(upload: &StartedUpload, document: &str) -> Result<PutPayload, ServerFailure> {
    let invalid = |what: String| ServerFailure::new(StatusCode::BAD_REQUEST, "InvalidPart", what);
    let (numbers, tags) = (xml::texts(document, "PartNumber"), xml::texts(document, "ETag"));
    if numbers.is_empty() || numbers.len() != tags.len() {
        return Err(invalid(format!("{} part numbers and {} tags", numbers.len(), tags.len())));
    }
    let mut last = 0;
    let mut bodies = Vec::with_capacity(numbers.len());
    for (number, tag) in numbers.iter().zip(&tags) {
        let number: u32 = number.parse().map_err(|_| invalid(format!("part {number:?}")))?;
        if number <= last {
            return Err(ServerFailure::new(
                StatusCode::BAD_REQUEST,
                "InvalidPartOrder",
                format!("part {number} after {last}"),
            ));
        }
        last = number;
        match upload.parts.get(&number) {
            Some((e_tag, body)) if e_tag == tag.trim_matches('"') => bodies.push(body.clone()),
            _ => return Err(invalid(format!("part {number} with tag {tag} was not uploaded"))),
        }
    }
    Ok(PutPayload::from_iter(bodies))
}

pub(super) async fn complete(shared: &ServerShared, request: &Request) -> ServerAnswer {
    let document = std::str::from_utf8(&request.body)
        .map_err(|e| ServerFailure::invalid(format!("complete: {e}")))?;
    let id = request.query("uploadId").unwrap_or_default();
    let payload = {
        let uploads = shared.uploads.lock();
        let upload = uploads.1.get(id).filter(|u| u.key == request.key);
        named_parts(upload.ok_or_else(|| no_such_upload(request))?, document)?
    };
    let options = PutOptions { mode: request.put_mode()?, ..PutOptions::default() };
    let (store, path) = place(shared, &request.key);
    let result = store.put_opts(&path, payload, options).await?;
    shared.wrote(&request.key);
    shared.uploads.lock().1.remove(id);
    let e_tag = result.e_tag.as_deref().unwrap_or_default();
    let inner = xml::element("Bucket", &request.bucket) + &xml::element("Key", &request.key);
    let inner = inner + &xml::element("ETag", &quoted(e_tag));
    let mut response =
        respond(StatusCode::OK, Body::from(xml::document("CompleteMultipartUploadResult", &inner)));
    set_version(&mut response, Some(e_tag))?;
    xml::mark(&mut response);
    Ok(response)
}

pub(super) fn abort(shared: &ServerShared, request: &Request) -> ServerAnswer {
    let id = request.query("uploadId").unwrap_or_default();
    shared.uploads.lock().1.remove(id).ok_or_else(|| no_such_upload(request))?;
    Ok(respond(StatusCode::NO_CONTENT, Body::empty()))
}
