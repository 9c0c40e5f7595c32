//! With which status and headers does a page go out? (S-LOGIN-10)

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::layout::{Destination, Site, safe_origin};
use super::{
    AccountNotice, BackupState, CodeProblem, KeyProblem, NewPasswordProblem, NotMeState, NumberProblem, Page,
    SignInProblem, StepUpAsk,
};
use crate::base::clock::Timestamp;

/// What the head of an answer needs to know of a page.
pub(super) struct Facts<'a> {
    pub status: StatusCode,
    pub forms: Forms<'a>,
    pub retry: Option<Timestamp>,
}

/// Where this page's forms, and the redirects after them, may lead.
#[derive(Clone, Copy)]
pub(super) enum Forms<'a> {
    Ours,
    /// Or to an app.
    Towards(&'a str),
    /// It carries a form of the app's own, and where the app sends people then is for the app to say.
    Anywhere,
}

pub(super) fn html(site: &Site, facts: &Facts<'_>, html: String) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(html));
    *answer.status_mut() = facts.status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(site.language.tag()));
    page_headers(site, facts.forms, headers);
    if let Some(at) = facts.retry {
        // Rounded up, and never 0: a retry must not come a moment too early.
        let wait = at.until(site.now).as_millis().div_ceil(1000).max(1);
        if let Ok(value) = HeaderValue::from_str(&wait.to_string()) {
            headers.insert(RETRY_AFTER, value);
        }
    }
    answer
}

/// The last resort, without template or words.
pub(super) fn broken(site: &Site) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from_static(b"Something went wrong on our side. Try again in a moment.\n"));
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page_headers(site, Forms::Ours, headers);
    answer
}

fn page_headers(site: &Site, forms: Forms<'_>, headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, policy(site, forms));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert(
        "permissions-policy",
        HeaderValue::from_static(
            "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), \
             midi=(), payment=(), screen-wake-lock=(), usb=(), xr-spatial-tracking=()",
        ),
    );
    if site.https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    always(headers);
}

/// What also problem documents and static files carry.
pub(super) fn always(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

fn policy(site: &Site, forms: Forms<'_>) -> HeaderValue {
    let mut text = String::from(
        "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    );
    let towards = match forms {
        Forms::Ours => Some(None),
        Forms::Towards(origin) => Some(Some(origin)),
        Forms::Anywhere => None,
    };
    if let Some(towards) = towards {
        text.push_str("; form-action 'self'");
        for origin in site.portal_origin.as_deref().into_iter().chain(towards).filter(|o| safe_origin(o)) {
            text.push(' ');
            text.push_str(origin);
        }
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// Status, form targets and the time of a retry, page by page.
pub(super) fn facts(page: &Page) -> Facts<'_> {
    let plain = |status| Facts { status, forms: Forms::Ours, retry: None };
    match page {
        Page::SignIn(p) => Facts {
            forms: towards(&p.app),
            ..match &p.problem {
                None => plain(StatusCode::OK),
                Some(SignInProblem::Throttled { until }) => paused(*until),
                Some(SignInProblem::Mismatch | SignInProblem::Key { .. }) => plain(StatusCode::UNPROCESSABLE_ENTITY),
            }
        },
        Page::Code(p) => Facts { forms: towards(&p.app), ..after(p.problem.as_ref()) },
        Page::Key(p) => Facts { forms: towards(&p.app), ..after_key(p.ask.problem) },
        Page::StepUp(p) => Facts {
            forms: towards(&p.app),
            ..match &p.ask {
                StepUpAsk::Key(key) => after_key(key.problem),
                StepUpAsk::Code(_) | StepUpAsk::Password { .. } => after(p.problem.as_ref()),
            }
        },
        Page::EnrollKey(p) => after_key(p.problem),
        Page::EnrollSms(p) => match &p.problem {
            None => plain(StatusCode::OK),
            Some(NumberProblem::SendPause { until } | NumberProblem::Throttled { until }) => paused(*until),
            Some(
                NumberProblem::NoCountry
                | NumberProblem::NoNumber
                | NumberProblem::Country
                | NumberProblem::Wrong
                | NumberProblem::Gone,
            ) => plain(StatusCode::UNPROCESSABLE_ENTITY),
        },
        Page::EnrollTotp(p) => match &p.later {
            Some(later) => Facts { forms: towards(&later.app), ..after(p.problem.as_ref()) },
            None => after(p.problem.as_ref()),
        },
        Page::EnrollLater(p) => Facts { forms: towards(&p.later.app), ..plain(StatusCode::OK) },
        Page::SetPassword(p) => after_new_password(p.problem.as_ref()),
        Page::NewPassword(p) => after_new_password(p.problem.as_ref()),
        Page::BackupCodes(p) => match &p.state {
            BackupState::Fresh { next, not_ticked, .. } => Facts {
                forms: towards(next),
                ..plain(if *not_ticked { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK })
            },
            BackupState::Seen | BackupState::First | BackupState::Replace { .. } => plain(StatusCode::OK),
        },
        Page::Account(p) => match p.notice {
            Some(AccountNotice::LastWay) => plain(StatusCode::CONFLICT),
            _ => plain(StatusCode::OK),
        },
        Page::NotMe(p) => plain(match p.state {
            NotMeState::Ask { .. } | NotMeState::Done { .. } => StatusCode::OK,
            NotMeState::Gone => StatusCode::GONE,
        }),
        Page::SignOut(p) => Facts { forms: towards(&p.app), ..plain(StatusCode::OK) },
        Page::Choose(_) | Page::GoOn(_) | Page::EnrollLink(_) | Page::SignedOut(_) => plain(StatusCode::OK),
        Page::SendForm(_) => Facts { forms: Forms::Anywhere, ..plain(StatusCode::OK) },
        Page::NotEnough(_) | Page::Denied(_) => plain(StatusCode::FORBIDDEN),
        Page::Message(p) => {
            let (status, retry) = p.kind.status();
            Facts { status, forms: Forms::Ours, retry }
        }
    }
}

fn towards(app: &Option<Destination>) -> Forms<'_> {
    app.as_ref().map_or(Forms::Ours, |a| Forms::Towards(&a.origin))
}

/// A form that came back with an error says so in its status too: password managers then do not
/// offer to keep what was typed.
fn after(problem: Option<&CodeProblem>) -> Facts<'static> {
    match problem {
        None => Facts { status: StatusCode::OK, forms: Forms::Ours, retry: None },
        Some(CodeProblem::Throttled { until } | CodeProblem::SendPause { until }) => paused(*until),
        Some(_) => Facts { status: StatusCode::UNPROCESSABLE_ENTITY, forms: Forms::Ours, retry: None },
    }
}

fn after_key(problem: Option<KeyProblem>) -> Facts<'static> {
    match problem {
        None => after(None),
        Some(_) => after(Some(&CodeProblem::Wrong)),
    }
}

fn after_new_password(problem: Option<&NewPasswordProblem>) -> Facts<'static> {
    match problem {
        None => after(None),
        Some(NewPasswordProblem::Throttled { until }) => paused(*until),
        Some(_) => after(Some(&CodeProblem::Wrong)),
    }
}

fn paused(until: Timestamp) -> Facts<'static> {
    Facts { status: StatusCode::TOO_MANY_REQUESTS, forms: Forms::Ours, retry: Some(until) }
}
