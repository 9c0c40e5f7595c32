//! What flows through the gate: request bodies to the app, answers to the client. Streamed, never
//! gathered; a slow side holds back the other, for each frame is asked for only when the one
//! before it was taken.

mod answer;
mod request;

pub use answer::{Carriage, Finish, Patience, ProxyBody};
pub use request::{ClientBody, ClientFault, Gathered, Looked, Progress, RequestBody};

use super::upstream::answer::AnswerError;

/// Why a body broke off. The other side sees an aborted message, never a finished one (S-FRAME-4).
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request body is larger than the app takes")]
    TooLarge,
    #[error("the client sent its body too slowly")]
    Stalled,
    #[error("the request body broke off")]
    Client(#[source] hyper::Error),
    #[error("the upstream's answer broke off")]
    Upstream(#[source] AnswerError),
    #[error("the upstream fell silent in the middle of its answer")]
    UpstreamSilent,
    #[error("the session behind this answer ended")]
    SessionEnded,
}
