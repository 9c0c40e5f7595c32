//! How does a ceremony that cannot go on answer? The one place that picks the status and the page.

use http::StatusCode;

use super::ask::Ask;
use super::{Answer, allow};
use crate::auth::AuthError;
use crate::auth::flow::OwnPage;
use crate::pages::problem::Problem;
use crate::pages::{Message, MessageKind, Page, wants_page};
use crate::session::{FormGone, cookie};

/// Why a request ends here.
#[derive(Debug)]
pub(super) enum Refusal {
    NotFound,
    Method,
    /// Another site, or a script where only a navigation may come (S-LOGIN-5, S-LOGIN-9).
    CrossSite,
    /// What was sent is no form of ours.
    BadForm,
    /// The pre-login cookie is not there: nothing can be bound to this browser (E16).
    CookieMissing {
        rd: Option<String>,
    },
    /// The attempt is over, or its form is of another browser; `rd` begins it anew.
    StartOver {
        rd: Option<String>,
    },
    /// A session cookie that is doubled, malformed or forged: refused, and cleared (S-COOK-2).
    BadCookie,
    LinkGone,
    FormGone(FormGone),
    /// More must be shown first for a page of ours.
    Confirm(OwnPage),
    Auth(AuthError),
    /// A sentence of ours could not be said.
    Words(minijinja::Error),
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::FlowGone | AuthError::Raced => Self::StartOver { rd: None },
            AuthError::TooLittleShown => Self::Confirm(OwnPage::Factors),
            AuthError::Store(_) | AuthError::Busy | AuthError::Hashing | AuthError::Seal(_) => Self::Auth(error),
        }
    }
}

impl Ask<'_> {
    /// The answer to a refusal, as a page or as a problem document.
    pub(super) fn refuse(&self, refusal: &Refusal) -> Answer {
        let again = |error: &AuthError| self.visit.now.plus(error.retry_after().unwrap_or_default());
        let kind = match refusal {
            Refusal::Confirm(page) => return self.redirect(&self.step_up_path(*page)),
            Refusal::NotFound => MessageKind::NotFound,
            Refusal::Method => MessageKind::MethodNotAllowed,
            Refusal::CrossSite => MessageKind::CrossSite,
            Refusal::BadForm => MessageKind::BadRequest,
            Refusal::CookieMissing { rd } => {
                MessageKind::CookieMissing { host: self.request.host.to_string(), rd: rd.clone() }
            }
            Refusal::StartOver { rd } => MessageKind::StartOver { rd: rd.clone() },
            Refusal::BadCookie => MessageKind::StartOver { rd: self.query("rd") },
            Refusal::LinkGone => MessageKind::LinkGone,
            Refusal::FormGone(gone) => MessageKind::from(*gone),
            Refusal::Words(error) => {
                tracing::error!(request = %self.request.id, error = format!("{error:#}"), "a page could not be written");
                MessageKind::Internal
            }
            Refusal::Auth(error @ AuthError::Busy) => MessageKind::Busy { again: again(error) },
            Refusal::Auth(error @ AuthError::Store(_)) => {
                tracing::error!(request = %self.request.id, cause = ?error, "a ceremony was refused: the store failed");
                MessageKind::StoreAway { again: again(error) }
            }
            Refusal::Auth(error @ AuthError::Hashing) => {
                tracing::error!(request = %self.request.id, "a ceremony was refused: {error}");
                MessageKind::StoreAway { again: again(error) }
            }
            Refusal::Auth(error) => {
                tracing::error!(request = %self.request.id, cause = ?error, "a ceremony failed");
                MessageKind::Internal
            }
        };
        let mut answer = if wants_page(&self.request.headers, &self.request.method) {
            self.page(&Page::Message(Message { kind, app: None, reference: Some(self.request.id) }))
        } else {
            self.problem(&kind)
        };
        if matches!(refusal, Refusal::Method) {
            allow(&mut answer);
        }
        if matches!(refusal, Refusal::BadCookie) {
            for taken_away in cookie::clear_all(&self.request.headers, &self.request.host) {
                self.add_cookie(&mut answer, Some(taken_away));
            }
        }
        answer
    }

    fn problem(&self, kind: &MessageKind) -> Answer {
        let (status, again) = kind.status();
        let (name, title) = match kind {
            MessageKind::NotFound => ("not-found", "There is no such page"),
            MessageKind::MethodNotAllowed => ("method-not-allowed", "This method is not served here"),
            MessageKind::CrossSite => ("cross-site", "This request came from another site or a script"),
            MessageKind::StartOver { .. } => ("start-over", "The attempt is over"),
            MessageKind::CookieMissing { .. } => ("cookie-missing", "The sign-in cookie is missing"),
            MessageKind::FormGone { .. } => ("form-gone", "The form is not kept any more"),
            MessageKind::LinkGone => ("link-gone", "The link was used or has ended"),
            MessageKind::Busy { .. } => ("busy", "Too many sign-ins at once"),
            MessageKind::StoreAway { .. } => ("store-unavailable", "Sign-in is not possible right now"),
            _ if status == StatusCode::BAD_REQUEST => ("bad-request", "The request cannot be read"),
            _ => ("internal", "Something went wrong"),
        };
        let problem = Problem {
            status,
            kind: name,
            title: title.to_owned(),
            detail: String::new(),
            reference: self.request.id,
            extra: Vec::new(),
        };
        let mut answer = problem.into_response();
        if let Some(again) = again {
            let secs = again.until(self.visit.now).as_secs().max(1);
            answer.headers_mut().insert(http::header::RETRY_AFTER, secs.into());
        }
        answer
    }
}
