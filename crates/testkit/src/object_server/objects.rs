//! Whole objects: get, head, put, copy, delete.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutOptions, PutResult,
};

use super::request::{GENERATION, Request, percent_decoded};
use super::{CreateOnly, Ordering, ServerAnswer, ServerFailure, ServerShared, respond, xml};

/// Where an object is: in the store, or, when its key is not a path, beside it under its bytes in
/// hexadecimal.
pub(super) fn place<'a>(shared: &'a ServerShared, key: &str) -> (&'a dyn ObjectStore, Path) {
    match Path::parse(key) {
        Ok(path) if path.as_ref() == key => (&*shared.store, path),
        _ => (&shared.odd, Path::from(key.bytes().map(|b| format!("{b:02x}")).collect::<String>())),
    }
}

/// The key of an object that is kept beside the store.
pub(super) fn odd_key(path: &Path) -> String {
    let digits = path.as_ref().as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(digits.filter_map(byte).collect()).unwrap_or_default()
}

/// A response whose body ends early, so that the client sees a broken connection.
pub(super) fn broken_off() -> Response<Body> {
    let broken = futures::stream::once(async {
        Err::<Bytes, _>(std::io::Error::other("broken off as planned"))
    });
    let mut response = respond(StatusCode::OK, Body::from_stream(broken));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(1));
    response
}

fn value(text: &str) -> Result<HeaderValue, ServerFailure> {
    HeaderValue::from_str(text).map_err(|e| {
        ServerFailure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", e.to_string())
    })
}

/// Sets ETag and generation, which say the same.
pub(super) fn set_version(
    response: &mut Response<Body>,
    e_tag: Option<&str>,
) -> Result<(), ServerFailure> {
    let e_tag = e_tag.unwrap_or_default();
    response.headers_mut().insert(header::ETAG, value(&quoted(e_tag))?);
    response.headers_mut().insert("x-goog-generation", value(&format!("{GENERATION}{e_tag}"))?);
    Ok(())
}

pub(super) fn quoted(e_tag: &str) -> String {
    format!("\"{e_tag}\"")
}

pub(super) async fn get(shared: &ServerShared, request: &Request, torn: bool) -> ServerAnswer {
    let options = GetOptions {
        if_match: request.header("if-match").map(unquoted),
        if_none_match: request.header("if-none-match").map(unquoted),
        if_modified_since: request
            .header("if-modified-since")
            .and_then(iso_date)
            .and_then(|date| date.parse().ok()),
        if_unmodified_since: request
            .header("if-unmodified-since")
            .and_then(iso_date)
            .and_then(|date| date.parse().ok()),
        range: request.header("range").map(range).transpose()?,
        head: request.is_head(),
        ..GetOptions::default()
    };
    let ranged = options.range.is_some();
    let key = &request.key;
    let (store, path) = place(shared, key);
    let result = match store.get_opts(&path, options).await {
        // the stores have no error of their own for it
        Err(error) if ranged && error.to_string().contains("Wanted range") => {
            let message = format!("{key}: {error}");
            return Err(ServerFailure::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidRange",
                message,
            ));
        }
        other => other?,
    };
    let e_tag = result.meta.e_tag.as_deref().unwrap_or_default();
    if request
        .query("generation")
        .is_some_and(|asked| asked.strip_prefix(GENERATION) != Some(e_tag))
    {
        return Err(ServerFailure::new(
            StatusCode::NOT_FOUND,
            "NoSuchKey",
            format!("{key}: older generations are not kept"),
        ));
    }
    let mut response =
        respond(if ranged { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK }, Body::empty());
    set_version(&mut response, Some(e_tag))?;
    set_range(&mut response, &result.meta, &result.range, ranged)?;
    if !request.is_head() {
        let len = result.range.end - result.range.start;
        shared.counters.bytes_out.fetch_add(if torn { len / 2 } else { len }, Ordering::Relaxed);
        *response.body_mut() = body(result, torn);
    }
    Ok(response)
}

fn set_range(
    response: &mut Response<Body>,
    meta: &ObjectMeta,
    range: &std::ops::Range<u64>,
    ranged: bool,
) -> Result<(), ServerFailure> {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let modified = meta.last_modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(header::LAST_MODIFIED, value(&modified)?);
    if ranged {
        let span = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), meta.size);
        headers.insert(header::CONTENT_RANGE, value(&span)?);
    }
    Ok(())
}

fn body(result: GetResult, torn: bool) -> Body {
    let half = ((result.range.end - result.range.start) / 2) as usize;
    let whole = result.into_stream().map_err(std::io::Error::from);
    if !torn {
        return Body::from_stream(whole);
    }
    let mut left = half;
    let first = whole.map_ok(move |mut bytes| {
        bytes.truncate(left);
        left -= bytes.len();
        bytes
    });
    let broken =
        futures::stream::once(async { Err(std::io::Error::other("broken off as planned")) });
    Body::from_stream(first.chain(broken))
}

fn unquoted(tag: &str) -> String {
    tag.trim_matches('"').to_owned()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as the end of that second: the stores have finer times than
/// HTTP.
fn iso_date(http: &str) -> Option<String> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = http.split(' ').skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    Some(format!("{year}-{month:02}-{day}T{time}.999999999Z"))
}

fn range(text: &str) -> Result<GetRange, ServerFailure> {
    let parse = || {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (first, last) {
            ("", suffix) => GetRange::Suffix(suffix.parse().ok()?),
            (first, "") => GetRange::Offset(first.parse().ok()?),
            (first, last) => {
                GetRange::Bounded(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
            }
        })
    };
    parse().ok_or_else(|| ServerFailure::invalid(format!("range {text:?}")))
}

/// The answer to a write.
pub(super) fn written(result: &PutResult) -> ServerAnswer {
    let mut response = respond(StatusCode::OK, Body::empty());
    set_version(&mut response, result.e_tag.as_deref())?;
    Ok(response)
}

pub(super) async fn put(shared: &ServerShared, request: Request) -> ServerAnswer {
    let mut mode = request.put_mode()?;
    if mode == PutMode::Create {
        match shared.settings.create_only {
            CreateOnly::Honoured => {}
            CreateOnly::Ignored => mode = PutMode::Overwrite,
            CreateOnly::Refused(status, code) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_IMPLEMENTED);
                return Err(ServerFailure::new(
                    status,
                    code,
                    "conditions of writes are not known here",
                ));
            }
        }
    }
    let options = PutOptions { mode, ..PutOptions::default() };
    let (store, path) = place(shared, &request.key);
    let result = store.put_opts(&path, request.body.into(), options).await?;
    shared.wrote(&request.key);
    written(&result)
}

pub(super) async fn copy(shared: &ServerShared, request: &Request) -> ServerAnswer {
    let source =
        percent_decoded(request.copy_source().unwrap_or_default().trim_start_matches('/'), false)?;
    let Some((_, key)) = source.split_once('/') else {
        return Err(ServerFailure::invalid(format!("copy source {source:?}")));
    };
    let create = request.header("x-goog-if-generation-match") == Some("0")
        || request.header("if-none-match") == Some("*");
    let mode = if create { CopyMode::Create } else { CopyMode::Overwrite };
    let path =
        |key: &str| Path::parse(key).map_err(|e| ServerFailure::from(object_store::Error::from(e)));
    let (from, to) = (path(key)?, path(&request.key)?);
    shared.store.copy_opts(&from, &to, CopyOptions { mode, ..CopyOptions::default() }).await?;
    shared.wrote(&request.key);
    let meta = shared.store.head(&to).await?;
    let e_tag = xml::element("ETag", &quoted(meta.e_tag.as_deref().unwrap_or_default()));
    let mut response =
        respond(StatusCode::OK, Body::from(xml::document("CopyObjectResult", &e_tag)));
    xml::mark(&mut response);
    Ok(response)
}

/// Deleting what is not there succeeds on S3; GCS says 404, and its client does not mind either.
pub(super) async fn delete(shared: &ServerShared, request: &Request) -> ServerAnswer {
    let (store, path) = place(shared, &request.key);
    let is_gcs = request.header("authorization").is_some_and(|auth| auth.starts_with("Bearer"));
    match store.head(&path).await {
        Err(object_store::Error::NotFound { .. }) if !is_gcs => {}
        Err(error) => return Err(error.into()),
        Ok(_) => store.delete(&path).await?,
    }
    Ok(respond(StatusCode::NO_CONTENT, Body::empty()))
}

pub(super) async fn delete_many(shared: &ServerShared, request: &Request) -> ServerAnswer {
    let document = std::str::from_utf8(&request.body)
        .map_err(|e| ServerFailure::invalid(format!("delete: {e}")))?;
    let mut results = String::new();
    for key in xml::texts(document, "Key") {
        let (store, path) = place(shared, &key);
        let deleted = store.delete(&path).await.map_err(ServerFailure::from);
        let key = xml::element("Key", &key);
        match deleted {
            Err(failure) if failure.status != StatusCode::NOT_FOUND => {
                let (code, message) =
                    (xml::element("Code", failure.code), xml::element("Message", &failure.message));
                results += &format!("<Error>{key}{code}{message}</Error>");
            }
            _ => results += &format!("<Deleted>{key}</Deleted>"),
        }
    }
    let mut response = respond(StatusCode::OK, Body::from(xml::document("DeleteResult", &results)));
    xml::mark(&mut response);
    Ok(response)
}
