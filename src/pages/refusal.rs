//! What do people see when something cannot be had? The policy's no, and everything that went wrong.

use http::StatusCode;
use serde::Serialize;

use super::layout::Destination;
use super::samples;
use crate::base::clock::Timestamp;
use crate::base::ids::RequestId;
use crate::session::FormGone;

/// The policy said no: its sentence, what was seen, whom to ask.
#[derive(Clone, Debug, Serialize)]
pub struct Denied {
    pub app: Destination,
    /// The sentence of the rule, written by an admin; `None` where the rule's `allow` does not
    /// name the person.
    pub sentence: Option<String>,
    /// Path without its query: that may hold secrets.
    pub path: String,
    /// `None` when nobody is signed in.
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub address: String,
    pub at: Timestamp,
    pub reference: RequestId,
}

/// Anything else that ends here.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    pub kind: MessageKind,
    pub app: Option<Destination>,
    pub reference: Option<RequestId>,
}

/// What happened. Each has a title, what it means and what to do, under `message.<name>` in the
/// words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum MessageKind {
    /// The attempt is older than ten minutes; `rd` begins it anew.
    StartOver {
        rd: Option<String>,
    },
    /// E15.
    StoreAway {
        again: Timestamp,
    },
    /// Too many sign-ins at once: the hashing queue is full.
    Busy {
        again: Timestamp,
    },
    /// More requests for apps than the gate has sockets for.
    Overloaded {
        again: Timestamp,
    },
    /// E16; the host whose cookies must be allowed.
    CookieMissing {
        host: String,
        rd: Option<String>,
    },
    /// A sign-up link or access pass that was used, replaced or has ended.
    LinkGone,
    /// A kept form that cannot be sent (any more), with when it was sent or lapsed.
    FormGone {
        sent: Option<Timestamp>,
        lapsed: Option<Timestamp>,
    },
    /// A form came from another site (S-LOGIN-5), or a page of ours was asked by a script (S-LOGIN-9).
    CrossSite,
    BadRequest,
    /// The path has more than one reading (S-PATH-2); `why` is `PathError::kind`. What an operator could set
    /// stands in the problem document, and the access log knows the reference.
    AmbiguousPath {
        why: &'static str,
    },
    /// The session cookie was refused and is taken away.
    CookieRefused,
    /// The session ended while the request was under way.
    SessionEnded,
    /// Its id was replaced by a newer one while the request was under way.
    SessionRenewed,
    /// A reload while the request was under way does not allow it any more.
    PolicyChanged,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    UriTooLong,
    NoSuchHost {
        host: String,
    },
    TooManyRequests {
        again: Timestamp,
    },
    HeadersTooLarge,
    Internal,
    NotImplemented,
    /// The app does not answer.
    BadGateway,
    /// No upstream of the app is healthy.
    NoUpstream,
    GatewayTimeout,
    /// No connection to the app came about in time: nothing reached it.
    OutOfReach,
    Loop,
}

impl From<FormGone> for MessageKind {
    fn from(gone: FormGone) -> Self {
        let (sent, lapsed) = match gone {
            FormGone::Sent { at } => (Some(at), None),
            FormGone::Lapsed { at } => (None, Some(at)),
            FormGone::Unknown => (None, None),
        };
        Self::FormGone { sent, lapsed }
    }
}

impl MessageKind {
    /// The status it goes out with, and when to come again.
    #[must_use]
    pub fn status(&self) -> (StatusCode, Option<Timestamp>) {
        let status = match self {
            Self::StartOver { .. }
            | Self::CookieMissing { .. }
            | Self::BadRequest
            | Self::AmbiguousPath { .. }
            | Self::CookieRefused => StatusCode::BAD_REQUEST,
            Self::LinkGone | Self::FormGone { .. } => StatusCode::GONE,
            Self::SessionEnded | Self::SessionRenewed => StatusCode::UNAUTHORIZED,
            Self::CrossSite | Self::PolicyChanged => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::NoSuchHost { .. } => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::StoreAway { .. } | Self::Busy { .. } | Self::Overloaded { .. } | Self::NoUpstream => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::GatewayTimeout | Self::OutOfReach => StatusCode::GATEWAY_TIMEOUT,
            Self::Loop => StatusCode::LOOP_DETECTED,
        };
        let again = match self {
            Self::StoreAway { again }
            | Self::Busy { again }
            | Self::Overloaded { again }
            | Self::TooManyRequests { again } => Some(*again),
            _ => None,
        };
        (status, again)
    }

    fn samples() -> Vec<(&'static str, Self)> {
        let again = samples::later(1);
        vec![
            ("start-over", Self::StartOver { rd: Some("sample-rd".to_owned()) }),
            ("start-over-no-app", Self::StartOver { rd: None }),
            ("store-away", Self::StoreAway { again }),
            ("busy", Self::Busy { again }),
            ("overloaded", Self::Overloaded { again }),
            ("cookie-missing", Self::CookieMissing { host: "login.corp.example".to_owned(), rd: None }),
            ("link-gone", Self::LinkGone),
            ("form-sent", Self::FormGone { sent: Some(samples::earlier(1)), lapsed: None }),
            ("form-lapsed", Self::FormGone { sent: None, lapsed: Some(samples::earlier(1)) }),
            ("form-gone", Self::FormGone { sent: None, lapsed: None }),
            ("cross-site", Self::CrossSite),
            ("bad-request", Self::BadRequest),
            ("ambiguous-path", Self::AmbiguousPath { why: "encoded_slash" }),
            ("cookie-refused", Self::CookieRefused),
            ("session-ended", Self::SessionEnded),
            ("session-renewed", Self::SessionRenewed),
            ("policy-changed", Self::PolicyChanged),
            ("not-found", Self::NotFound),
            ("method-not-allowed", Self::MethodNotAllowed),
            ("too-large", Self::TooLarge),
            ("uri-too-long", Self::UriTooLong),
            ("no-such-host", Self::NoSuchHost { host: "stock.corp.example".to_owned() }),
            ("too-many-requests", Self::TooManyRequests { again }),
            ("headers-too-large", Self::HeadersTooLarge),
            ("internal", Self::Internal),
            ("not-implemented", Self::NotImplemented),
            ("bad-gateway", Self::BadGateway),
            ("no-upstream", Self::NoUpstream),
            ("gateway-timeout", Self::GatewayTimeout),
            ("out-of-reach", Self::OutOfReach),
            ("loop", Self::Loop),
        ]
    }
}

impl Denied {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            app: samples::payroll(),
            sentence: Some("Exports work from the office, weekdays 7 to 19 h.".to_owned()),
            path: "/export/2026-10.csv".to_owned(),
            user: Some("ann".to_owned()),
            groups: vec!["staff".to_owned(), "payroll-readers".to_owned()],
            address: "203.0.113.9".to_owned(),
            at: samples::earlier(0),
            reference: samples::reference(),
        };
        vec![
            ("rule", plain()),
            ("not-allowed", Self { sentence: None, groups: Vec::new(), ..plain() }),
            ("anonymous", Self { user: None, groups: Vec::new(), ..plain() }),
        ]
    }
}

impl Message {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let app = |kind: &MessageKind| {
            let of_an_app = matches!(
                kind,
                MessageKind::BadGateway
                    | MessageKind::NoUpstream
                    | MessageKind::GatewayTimeout
                    | MessageKind::OutOfReach
                    | MessageKind::StartOver { rd: Some(_) }
            );
            of_an_app.then(samples::payroll)
        };
        let whole = |(name, kind): (&'static str, MessageKind)| {
            (name, Self { app: app(&kind), kind, reference: Some(samples::reference()) })
        };
        let mut all: Vec<_> = MessageKind::samples().into_iter().map(whole).collect();
        all.push(("no-reference", Self { kind: MessageKind::NotFound, app: None, reference: None }));
        all
    }
}
