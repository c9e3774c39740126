//! ListObjectsV2, the same for both protocols.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::StatusCode;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::objects::{odd_key, quoted};
use super::request::Request;
use super::{ServerAnswer, ServerFailure, ServerShared, respond, xml};

/// What a page shows: objects and common prefixes, by key.
enum ListedEntry {
    Object(ObjectMeta),
    Prefix(String),
}

pub(super) async fn list(shared: &ServerShared, request: &Request, stale: bool) -> ServerAnswer {
    let prefix = request.query("prefix").unwrap_or_default();
    let delimiter = request.query("delimiter").filter(|d| !d.is_empty());
    let after = request
        .query("continuation-token")
        .or_else(|| request.query("start-after"))
        .unwrap_or_default();
    let asked = request.query("max-keys").map(str::parse::<usize>).transpose();
    let asked =
        asked.map_err(|e| ServerFailure::invalid(format!("max-keys: {e}")))?.unwrap_or(usize::MAX);
    let limit = asked.min(shared.settings.page_size);
    let hidden = if stale { shared.newest() } else { Vec::new() };
    let entries = entries(shared, prefix, delimiter).await?;
    let mut page = String::new();
    let (mut shown, mut last, mut more) = (0, String::new(), false);
    for (key, entry) in
        entries.into_iter().filter(|(key, _)| key.as_str() > after && !hidden.contains(key))
    {
        if shown == limit {
            more = true;
            break;
        }
        shown += 1;
        page += &rendered(&key, &entry);
        last = key;
    }
    let mut inner = xml::element("Name", &shared.settings.bucket) + &xml::element("Prefix", prefix);
    inner += &xml::element("KeyCount", &shown.to_string());
    inner += &xml::element("IsTruncated", if more { "true" } else { "false" });
    if more {
        inner += &xml::element("NextContinuationToken", &last);
    }
    let mut response =
        respond(StatusCode::OK, Body::from(xml::document("ListBucketResult", &(inner + &page))));
    xml::mark(&mut response);
    Ok(response)
}

/// Everything under a prefix of characters, folded at the delimiter, sorted by key.
async fn entries(
    shared: &ServerShared,
    prefix: &str,
    delimiter: Option<&str>,
) -> Result<Vec<(String, ListedEntry)>, ServerFailure> {
    // the stores only support prefixes of whole path segments
    let folder = prefix.rsplit_once('/').and_then(|(folder, _)| Path::parse(folder).ok());
    let objects: Vec<ObjectMeta> = shared.store.list(folder.as_ref()).try_collect().await?;
    let odd: Vec<ObjectMeta> = shared.odd.list(None).try_collect().await?;
    let odd = odd.into_iter().map(|meta| (odd_key(&meta.location), meta));
    let (mut entries, mut prefixes) = (Vec::new(), BTreeSet::new());
    for (key, meta) in objects.into_iter().map(|meta| (meta.location.to_string(), meta)).chain(odd)
    {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        match delimiter.and_then(|d| rest.find(d).map(|at| prefix.len() + at + d.len())) {
            Some(end) => {
                prefixes.insert(key[..end].to_owned());
            }
            None => entries.push((key, ListedEntry::Object(meta))),
        }
    }
    entries
        .extend(prefixes.into_iter().map(|prefix| (prefix.clone(), ListedEntry::Prefix(prefix))));
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn rendered(key: &str, entry: &ListedEntry) -> String {
    match entry {
        ListedEntry::Prefix(prefix) => {
            format!("<CommonPrefixes>{}</CommonPrefixes>", xml::element("Prefix", prefix))
        }
        ListedEntry::Object(meta) => format!(
            "<Contents>{}{}{}{}</Contents>",
            xml::element("Key", key),
            xml::element(
                "LastModified",
                &meta.last_modified.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
            ),
            xml::element("ETag", &quoted(meta.e_tag.as_deref().unwrap_or_default())),
            xml::element("Size", &meta.size.to_string()),
        ),
    }
}
