//! Which files lie under `/.stepgate/static/`? These and no others.

use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::response;
use crate::domain::portal::PortalRoute;

/// One static file. It holds nothing of anyone, so every host serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    pub bytes: Bytes,
    pub content_type: &'static str,
    /// Strong: the start of the SHA-256 of the bytes, in quotes.
    pub etag: String,
    /// The name was asked with the hash of these bytes: it may be kept for ever.
    pub immutable: bool,
}

struct File {
    stem: &'static str,
    ext: &'static str,
    bytes: &'static [u8],
    hash: String,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let file = |stem, ext, bytes: &'static str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes.as_bytes());
        let hash = HEXLOWER.encode(digest.as_ref().split_at(8).0);
        File { stem, ext, bytes: bytes.as_bytes(), hash }
    };
    vec![
        file("app", "css", include_str!("../../assets/static/app.css")),
        file("code", "js", include_str!("../../assets/static/code.js")),
        file("copy", "js", include_str!("../../assets/static/copy.js")),
        file("tabs", "js", include_str!("../../assets/static/tabs.js")),
        file("send", "js", include_str!("../../assets/static/send.js")),
        file("form", "js", include_str!("../../assets/static/form.js")),
        file("webauthn", "js", include_str!("../../assets/static/webauthn.js")),
        file("time", "js", include_str!("../../assets/static/time.js")),
        // No page of ours links it: apps may.
        file("keepalive", "js", include_str!("../../assets/static/keepalive.js")),
    ]
});

/// The file with this name: `app.css`, or `app-<hash>.css` as pages link it. A hash that is not
/// ours (a page of the replica before or after this one) gets today's bytes, to be asked again.
#[must_use]
pub fn get(name: &str) -> Option<Asset> {
    let (stem, ext) = name.rsplit_once('.')?;
    let (stem, asked) = match stem.rsplit_once('-') {
        Some((stem, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => (stem, Some(hash)),
        _ => (stem, None),
    };
    let file = FILES.iter().find(|f| f.stem == stem && f.ext == ext)?;
    let content_type = if file.ext == "css" { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
    Some(Asset {
        bytes: Bytes::from_static(file.bytes),
        content_type,
        etag: format!("\"{}\"", file.hash),
        immutable: asked == Some(file.hash.as_str()),
    })
}

/// The answer for a name, or `None` where there is no such file. Understands `If-None-Match`.
#[must_use]
pub fn respond(name: &str, request: &HeaderMap) -> Option<Response<Bytes>> {
    let asset = get(name)?;
    let etag = HeaderValue::from_str(&asset.etag).ok()?;
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok()).any(|v| {
        // Weak comparison (RFC 9110 13.1.2): a cache in between may have weakened the tag.
        v.split(',').map(|t| t.trim()).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == asset.etag)
    });
    let mut answer = Response::new(if known { Bytes::new() } else { asset.bytes });
    if known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let keep = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(ETAG, etag);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    response::always(headers);
    Some(answer)
}

/// Where pages link a file: its path with the hash of its bytes in the name.
pub(super) fn url(name: &str) -> Option<String> {
    let (stem, ext) = name.rsplit_once('.')?;
    let file = FILES.iter().find(|f| f.stem == stem && f.ext == ext)?;
    Some(PortalRoute::Static(format!("{stem}-{}.{ext}", file.hash)).path())
}
