//! What a request gets that never came as far as an app or a page: the one mapping of this layer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};

use super::client_addr::AddressError;
use super::dispatch::EdgeShared;
use super::target::{self, TargetError};
use crate::base::clock::Timestamp;
use crate::base::ids::RequestId;
use crate::config::Snapshot;
use crate::domain::method::MethodError;
use crate::pages::problem::Problem;
use crate::pages::{Language, Message, MessageKind, Page, Site, wants_page};

/// The common ones among the methods that are carried: all but CONNECT and TRACE, as `Allow` names them.
pub const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// When to come back after too many at once.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UriTooLong,
    HeadersTooLarge,
    Method(MethodError),
    Target(TargetError),
    Address(AddressError),
    ClearText,
    NoSuchHost,
    NotFound,
    TooLarge,
    TooSlow,
    BodyBroken,
    Coding,
    Expect,
    /// The client's address has as many requests under way as it may.
    OneTooMany,
    /// As many connections are open as may be; this one has a place that is kept for signing in.
    Full,
    Internal,
}

impl Refusal {
    /// For the access log and the problem's type: a fixed word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UriTooLong => "uri-too-long",
            Self::HeadersTooLarge => "headers-too-large",
            Self::Method(MethodError::NotCarried) => "method-not-allowed",
            Self::Method(MethodError::NotInCapitals) => "method-letters",
            Self::Target(_) => "unreadable-target",
            Self::Address(_) => "unreadable-address",
            Self::ClearText => "clear-text",
            Self::NoSuchHost => "no-such-host",
            Self::NotFound => "not-found",
            Self::TooLarge => "too-large",
            Self::TooSlow => "request-timeout",
            Self::BodyBroken => "body-broken",
            Self::Coding => "transfer-coding",
            Self::Expect => "expectation-failed",
            Self::OneTooMany => "too-many-requests",
            Self::Full => "overloaded",
            Self::Internal => "internal",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method(MethodError::NotCarried) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Method(MethodError::NotInCapitals) | Self::Target(_) | Self::Address(_) | Self::BodyBroken => {
                StatusCode::BAD_REQUEST
            }
            Self::ClearText => StatusCode::FORBIDDEN,
            Self::NoSuchHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Expect => StatusCode::EXPECTATION_FAILED,
            Self::OneTooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Title and detail for programs.
    fn words(self) -> (&'static str, String) {
        match self {
            Self::UriTooLong => ("Address too long", "The request line is longer than 8 KiB.".into()),
            Self::HeadersTooLarge => (
                "Header fields too large",
                "At most 100 fields, 16 KiB for one and 32 KiB for all of them are taken.".into(),
            ),
            Self::Method(MethodError::NotCarried) => {
                ("Method not allowed", "CONNECT and TRACE are not carried.".into())
            }
            Self::Method(MethodError::NotInCapitals) => {
                ("Unreadable request", "The method must be written in capitals.".into())
            }
            Self::Target(error) => ("Unreadable request", format!("{error}.")),
            Self::Address(error) => ("Unreadable request", format!("{error}.")),
            Self::ClearText => ("Only over https", "This address answers over https only.".into()),
            Self::NoSuchHost => ("No such host", "No app has the host that the request names.".into()),
            Self::NotFound => ("Not found", "The gate has no such page.".into()),
            Self::TooLarge => ("Too large", "A form for the gate has at most 64 KiB.".into()),
            Self::TooSlow => ("Request too slow", "The body did not arrive in time.".into()),
            Self::BodyBroken => ("Unreadable request", "The body broke off or is framed wrongly.".into()),
            Self::Coding => {
                ("Transfer coding not supported", "Transfer-Encoding must be `chunked`, once and alone.".into())
            }
            Self::Expect => ("Expectation failed", "Only `Expect: 100-continue` is understood.".into()),
            Self::OneTooMany => {
                ("Too many requests at once", "Your address has as many requests under way as it may.".into())
            }
            Self::Full => {
                ("Too much at once", "More connections are open than the gate can carry. Try again in a moment.".into())
            }
            Self::Internal => ("Internal error", "The fault is the gate's; the reference names it in the log.".into()),
        }
    }

    fn page<B>(self, request: &Request<B>, now: Timestamp) -> MessageKind {
        match self {
            Self::UriTooLong => MessageKind::UriTooLong,
            Self::HeadersTooLarge => MessageKind::HeadersTooLarge,
            Self::Method(MethodError::NotCarried) => MessageKind::MethodNotAllowed,
            Self::Method(MethodError::NotInCapitals)
            | Self::Target(_)
            | Self::Address(_)
            | Self::ClearText
            | Self::BodyBroken
            | Self::TooSlow
            | Self::Expect => MessageKind::BadRequest,
            Self::NoSuchHost => {
                let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
                let named = host.map(ToOwned::to_owned).or_else(|| request.uri().host().map(ToOwned::to_owned));
                MessageKind::NoSuchHost { host: named.unwrap_or_default() }
            }
            Self::NotFound => MessageKind::NotFound,
            Self::Coding => MessageKind::NotImplemented,
            Self::OneTooMany => MessageKind::TooManyRequests { again: now.plus(AGAIN) },
            Self::Full => MessageKind::Overloaded { again: now.plus(AGAIN) },
            Self::TooLarge => MessageKind::TooLarge,
            Self::Internal => MessageKind::Internal,
        }
    }
}

fn site<B>(snapshot: &Snapshot, request: &Request<B>, now: Timestamp) -> Site {
    let language = Language::wished(request.headers());
    // A host that cannot be read is none of ours; the page then links to the portal.
    let host = target::host(request, snapshot.public_scheme()).ok();
    host.map_or_else(|| Site::anywhere(snapshot, language, now), |host| Site::new(snapshot, &host, language, now))
}

/// A page for a browser's navigation, a problem document for everything else.
#[must_use]
pub fn respond<B>(
    shared: &EdgeShared,
    refusal: Refusal,
    request: &Request<B>,
    snapshot: &Snapshot,
    id: RequestId,
    now: Timestamp,
) -> Response<Bytes> {
    let mut response = if wants_page(request.headers(), request.method()) {
        let page = Page::Message(Message { kind: refusal.page(request, now), app: None, reference: Some(id) });
        shared.pages.render(&site(snapshot, request, now), &page)
    } else {
        let (title, detail) = refusal.words();
        Problem {
            status: refusal.status(),
            kind: refusal.word(),
            title: title.to_owned(),
            detail,
            reference: id,
            extra: Vec::new(),
        }
        .into_response()
    };
    *response.status_mut() = refusal.status();
    if matches!(refusal, Refusal::OneTooMany | Refusal::Full) {
        response.headers_mut().insert(header::RETRY_AFTER, AGAIN.as_secs().into());
    }
    if refusal == Refusal::Method(MethodError::NotCarried) {
        response.headers_mut().insert(header::ALLOW, METHODS);
    }
    response
}
