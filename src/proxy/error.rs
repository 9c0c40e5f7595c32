//! Why was a request not carried, whose fault is that, and what may each side know of it? The one
//! place where the proxy chooses statuses.

use std::borrow::Cow;

use http::StatusCode;

use super::body::ClientFault;
use super::upstream::answer::AnswerError;
use super::upstream::connect::ConnectError;
use crate::domain::method::MethodError;
use crate::domain::path::PathError;
use crate::domain::policy::destination::BadDestination;
use crate::pages::MessageKind;
use crate::session::{BadCookie, FormGone};
use crate::store::StoreError;

/// Everything that ends a request without the app's own answer, except the verdicts of policy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("the path cannot be read in one way only")]
    Path(#[from] PathError),
    #[error("the Destination field cannot be judged")]
    Destination(BadDestination),
    #[error("{0}")]
    Method(MethodError),
    #[error("an expectation other than 100-continue")]
    Expect,
    #[error("a GET or HEAD request with a body")]
    BodyOnGet,
    #[error("a transfer coding other than chunked alone")]
    Coding,
    #[error("the session cookie is refused")]
    Cookie(BadCookie),
    #[error("an id that was replaced is used for more than reading")]
    OldId,
    #[error("the session ended while the app was answering")]
    SessionEnded,
    #[error("the policy changed while the app was answering, and does not allow the request any more")]
    PolicyChanged,
    #[error("the body is larger than the app takes")]
    BodyTooLarge,
    #[error("the client sent its body too slowly")]
    BodyStalled,
    #[error("the client's body broke off")]
    BodyBroken,
    #[error("the WebSocket handshake is not one of version 13")]
    WebSocketVersion,
    #[error("the WebSocket handshake cannot be read")]
    WebSocketHandshake,
    #[error("the WebSocket was opened by a page of another origin")]
    Origin,
    #[error("a page of another site sent what would change something")]
    CrossSite,
    #[error("the session holds its full number of WebSockets")]
    Tunnels,
    #[error("the request came back to the gate that sent it")]
    Loop,
    #[error("every address of the app fails its health checks")]
    NoUpstream,
    #[error("too much is under way already")]
    Overloaded,
    #[error("no connection to the app")]
    Connect(#[source] ConnectError),
    #[error("the app closed the connection before it answered")]
    Upstream(#[source] AnswerError),
    #[error("the app did not answer in time")]
    UpstreamTimedOut,
    #[error("the app's answer is framed in a way that cannot be passed on")]
    UpstreamFraming,
    #[error("the app changed protocols in a way that nobody asked for")]
    UpstreamUpgrade,
    #[error("a session could not be read")]
    Store(#[source] StoreError),
    #[error("the gate is stopping")]
    Stopping,
    #[error("the kept form was sent, has lapsed, or is not this browser's")]
    FormGone(FormGone),
}

impl From<ClientFault> for ProxyError {
    fn from(fault: ClientFault) -> Self {
        match fault {
            ClientFault::TooLarge => Self::BodyTooLarge,
            ClientFault::Stalled => Self::BodyStalled,
            ClientFault::Broken => Self::BodyBroken,
            ClientFault::SessionEnded => Self::SessionEnded,
        }
    }
}

/// Who would have to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Client,
    Upstream,
    Gate,
}

/// How one error is answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fault: Fault,
    /// The end of the problem's type.
    pub kind: &'static str,
    /// `why` in the access log: a fixed word.
    pub why: &'static str,
    pub title: &'static str,
    /// For whoever sent the request. Never an address or a version (S-UP-7).
    pub detail: Cow<'static, str>,
    /// The page for a browser; its own status gives way to `status`.
    pub page: MessageKind,
    /// What was read of the request cannot be trusted to end where the next one begins.
    pub close: bool,
}

impl ProxyError {
    /// `again`: when to come back, where that is worth saying.
    #[must_use]
    pub fn answer(&self, again: crate::base::clock::Timestamp) -> Answer {
        use Fault::{Client, Gate, Upstream};
        use MessageKind::{BadGateway, BadRequest, CrossSite, GatewayTimeout, MethodNotAllowed, StoreAway, TooLarge};
        let of = |status, fault, kind, title, detail: &'static str, page| Answer {
            status,
            fault,
            kind,
            why: kind,
            title,
            detail: detail.into(),
            page,
            close: false,
        };
        let bad = |kind, detail| of(StatusCode::BAD_REQUEST, Client, kind, "Unreadable request", detail, BadRequest);
        match self {
            // The path itself is not repeated: it may hold what somebody typed.
            Self::Path(error) => {
                let detail = format!("The path was refused because it can be read in more than one way: {error}.");
                let page = MessageKind::AmbiguousPath { why: error.kind() };
                Answer { why: error.kind(), detail: detail.into(), page, ..bad("ambiguous-path", "") }
            }
            Self::Destination(error) => Answer {
                detail: format!("The Destination field was refused: {error}.").into(),
                ..bad("destination", "")
            },
            Self::FormGone(gone) => of(
                StatusCode::GONE,
                Client,
                "form-gone",
                "The form is gone",
                "It was sent already, was kept no longer, or belongs to another sign-in.",
                MessageKind::from(*gone),
            ),
            Self::Method(MethodError::NotInCapitals) => {
                bad("method-letters", "The method must be written in capitals.")
            }
            Self::Method(MethodError::NotCarried) => of(
                StatusCode::METHOD_NOT_ALLOWED,
                Client,
                "method-not-allowed",
                "Method not allowed",
                "CONNECT and TRACE are not carried.",
                MethodNotAllowed,
            ),
            // What comes next may be the body or, from whoever now keeps it, the next request.
            Self::Expect => Answer {
                close: true,
                ..of(
                    StatusCode::EXPECTATION_FAILED,
                    Client,
                    "expectation-failed",
                    "Expectation failed",
                    "Only `Expect: 100-continue` is understood.",
                    BadRequest,
                )
            },
            Self::BodyOnGet => Answer {
                close: true,
                ..bad("body-on-get", "A GET or HEAD request with a body is not carried to this app.")
            },
            Self::Coding => Answer {
                close: true,
                ..of(
                    StatusCode::NOT_IMPLEMENTED,
                    Client,
                    "transfer-coding",
                    "Transfer coding not supported",
                    "Transfer-Encoding must be `chunked`, once and alone.",
                    MessageKind::NotImplemented,
                )
            },
            Self::Cookie(_) => Answer {
                page: MessageKind::CookieRefused,
                ..bad(
                    "session-cookie-refused",
                    "The session cookie could not be accepted and was cleared. Sign in again.",
                )
            },
            Self::OldId => of(
                StatusCode::UNAUTHORIZED,
                Client,
                "session-id-replaced",
                "Session id replaced",
                "This session has a newer id since the last sign-in or confirmation. Send the request again with it.",
                MessageKind::SessionRenewed,
            ),
            Self::SessionEnded => of(
                StatusCode::UNAUTHORIZED,
                Client,
                "session-ended",
                "Session ended",
                "The session ended while the request was being answered. Sign in again.",
                MessageKind::SessionEnded,
            ),
            Self::PolicyChanged => of(
                StatusCode::FORBIDDEN,
                Client,
                "policy-changed",
                "Not allowed any more",
                "The rules of this app changed while the request was being answered, and do not allow it any more.",
                MessageKind::PolicyChanged,
            ),
            Self::BodyTooLarge => Answer {
                close: true,
                ..of(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    Client,
                    "too-large",
                    "Too large",
                    "The body is larger than this app takes.",
                    TooLarge,
                )
            },
            Self::BodyStalled => Answer {
                close: true,
                ..of(
                    StatusCode::REQUEST_TIMEOUT,
                    Client,
                    "request-timeout",
                    "Request too slow",
                    "The body did not arrive in time.",
                    BadRequest,
                )
            },
            Self::BodyBroken => {
                Answer { close: true, ..bad("body-broken", "The body broke off or is framed wrongly.") }
            }
            Self::WebSocketVersion => of(
                StatusCode::UPGRADE_REQUIRED,
                Client,
                "websocket-version",
                "WebSocket version not supported",
                "Only WebSocket version 13 is carried.",
                BadRequest,
            ),
            Self::WebSocketHandshake => bad("websocket-handshake", "The WebSocket handshake is not a valid one."),
            Self::Origin => of(
                StatusCode::FORBIDDEN,
                Client,
                "websocket-origin",
                "Wrong origin",
                "WebSockets open only from this host's own pages.",
                CrossSite,
            ),
            Self::CrossSite => of(
                StatusCode::FORBIDDEN,
                Client,
                "cross-site",
                "From another site",
                "A page of another site sent this, and the app takes changes from its own pages only.",
                CrossSite,
            ),
            Self::Tunnels => of(
                StatusCode::TOO_MANY_REQUESTS,
                Client,
                "too-many-websockets",
                "Too many WebSockets",
                "As many WebSockets are open as one session, or one address without a session, may hold.",
                MessageKind::TooManyRequests { again },
            ),
            Self::Loop => of(
                StatusCode::LOOP_DETECTED,
                Gate,
                "loop",
                "Loop detected",
                "The app's address leads back to the gate.",
                MessageKind::Loop,
            ),
            Self::NoUpstream => of(
                StatusCode::SERVICE_UNAVAILABLE,
                Upstream,
                "no-upstream",
                "The app is not available",
                "No address of the app is well at the moment. Try again later.",
                MessageKind::NoUpstream,
            ),
            Self::Overloaded => of(
                StatusCode::SERVICE_UNAVAILABLE,
                Gate,
                "overloaded",
                "Too much at once",
                "More requests are under way than the gate can carry. Try again in a moment.",
                MessageKind::Overloaded { again },
            ),
            Self::Connect(ConnectError::TimedOut) => of(
                StatusCode::GATEWAY_TIMEOUT,
                Upstream,
                "gateway-timeout",
                "The app cannot be reached",
                "No connection to the app came about in time. Nothing of the request has reached it.",
                MessageKind::OutOfReach,
            ),
            Self::UpstreamTimedOut => of(
                StatusCode::GATEWAY_TIMEOUT,
                Upstream,
                "gateway-timeout",
                "The app is too slow",
                "The app did not answer in time.",
                GatewayTimeout,
            ),
            Self::Connect(_) | Self::Upstream(_) => of(
                StatusCode::BAD_GATEWAY,
                Upstream,
                "bad-gateway",
                "The app does not answer",
                "The app could not be reached, or broke off before it answered.",
                BadGateway,
            ),
            Self::UpstreamFraming | Self::UpstreamUpgrade => of(
                StatusCode::BAD_GATEWAY,
                Upstream,
                "bad-gateway",
                "The app's answer is not valid",
                "The app answered in a way that cannot be passed on.",
                BadGateway,
            ),
            Self::Store(_) => of(
                StatusCode::SERVICE_UNAVAILABLE,
                Gate,
                "store-away",
                "Sign-ins cannot be checked now",
                "The store of sessions does not answer. Try again in a moment.",
                StoreAway { again },
            ),
            Self::Stopping => of(
                StatusCode::SERVICE_UNAVAILABLE,
                Gate,
                "stopping",
                "The gate is restarting",
                "Try again in a moment.",
                StoreAway { again },
            ),
        }
    }
}
