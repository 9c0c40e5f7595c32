//! What do people see? Every page of ours: typed data in, a whole answer with its headers out.
//!
//! Markup stands in `assets/pages`, every sentence in `assets/text/en.json`, looks in
//! `assets/static`. A page knows nothing of stores, sessions or policies.

pub mod assets;
mod layout;
mod negotiate;
pub mod problem;
pub mod qr;
mod refusal;
mod response;
mod samples;
mod sign_in;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use minijinja::Value;
use minijinja::value::Serde;

pub use layout::{Destination, Hidden, Site};
pub use negotiate::wants_page;
pub use refusal::{Denied, Message, MessageKind};
pub use sign_in::{Code, CodeAsk, CodeProblem, SignIn, SignInNotice, SignInProblem};
pub use words::{Words, WordsError};

/// Everything that can be shown.
#[derive(Clone, Debug)]
pub enum Page {
    SignIn(SignIn),
    Code(Code),
    Denied(Denied),
    Message(Message),
}

/// The compiled templates and words; one for the process.
pub struct Pages {
    templates: layout::Templates,
}

impl Pages {
    /// English, with times in the machine's zone (a script turns them into the reader's).
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(Words::english(), jiff::tz::TimeZone::system())
    }

    /// Other words or another zone, for tests and translations.
    #[must_use]
    pub fn with(words: Words, zone: jiff::tz::TimeZone) -> Arc<Self> {
        Arc::new(Self { templates: layout::Templates::new(words, zone) })
    }

    /// The page as an answer: its status, its body, and the headers of S-LOGIN-10.
    #[must_use]
    pub fn render(&self, site: &Site, page: &Page) -> Response<Bytes> {
        let facts = response::facts(page);
        match self.html(site, page) {
            Ok(html) => response::html(site, &facts, html),
            Err(error) => {
                // Ours alone to mend; the person gets an answer all the same.
                tracing::error!(error = format!("{error:#}"), "a page could not be rendered");
                response::broken(site)
            }
        }
    }

    /// The markup alone; `render` is what answers use.
    pub fn html(&self, site: &Site, page: &Page) -> Result<String, minijinja::Error> {
        let (template, data) = match page {
            Page::SignIn(data) => ("sign-in.html", Value::from(Serde(data))),
            Page::Code(data) => ("code.html", Value::from(Serde(data))),
            Page::Denied(data) => ("denied.html", Value::from(Serde(data))),
            Page::Message(data) => ("message.html", Value::from(Serde(data))),
        };
        self.templates.render(template, site, data)
    }
}

/// Each page in each of its states, by name: what tests render and people look at.
#[must_use]
pub fn samples() -> Vec<(String, Page)> {
    fn named<T>(
        page: &'static str,
        samples: Vec<(&'static str, T)>,
        wrap: fn(T) -> Page,
    ) -> impl Iterator<Item = (String, Page)> {
        samples.into_iter().map(move |(state, data)| (format!("{page}.{state}"), wrap(data)))
    }
    named("sign-in", SignIn::samples(), Page::SignIn)
        .chain(named("code", Code::samples(), Page::Code))
        .chain(named("denied", Denied::samples(), Page::Denied))
        .chain(named("message", Message::samples(), Page::Message))
        .collect()
}
