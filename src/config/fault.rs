//! What is wrong with a file, and where: all of it at once, each with its place and a hint.

use std::fmt;
use std::sync::Arc;

use super::yaml::Mark;
use crate::domain::policy::Place;

/// One mistake. The file is not used until it is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub file: Arc<str>,
    /// From 1; 0 where the whole file is meant.
    pub line: u32,
    pub column: u32,
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Fault {
    /// About a file as a whole, or what it leads to.
    #[must_use]
    pub fn of_file(file: &str, message: String) -> Self {
        Self { file: file.into(), line: 0, column: 0, message, hint: None }
    }
}

/// Something that works and that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning(pub Fault);

/// `file:line:column: message - hint`, the form that editors jump by.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " - {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Collects while the files are read.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Warning>,
}

impl Report {
    pub(super) fn fault(&mut self, file: &Arc<str>, at: Mark, message: impl Into<String>) {
        self.faults.push(make(file, at, message.into(), None));
    }

    pub(super) fn fault_with(
        &mut self,
        file: &Arc<str>,
        at: Mark,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.faults.push(make(file, at, message.into(), hint.into()));
    }

    pub(super) fn warn_with(&mut self, file: &Arc<str>, at: Mark, message: impl Into<String>, hint: String) {
        self.warnings.push(Warning(make(file, at, message.into(), Some(hint))));
    }

    pub(super) fn warn(&mut self, file: &Arc<str>, at: Mark, message: impl Into<String>) {
        self.warnings.push(Warning(make(file, at, message.into(), None)));
    }
}

fn make(file: &Arc<str>, at: Mark, message: String, hint: Option<String>) -> Fault {
    Fault { file: Arc::clone(file), line: at.line, column: at.column, message, hint }
}

pub(super) fn place(file: &Arc<str>, at: Mark) -> Place {
    Place { file: Arc::clone(file), line: at.line, column: at.column }
}

/// `did you mean "strong"?`, where one of the words is near enough.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|near| format!("did you mean {near:?}?"))
}

pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best =
        known.into_iter().map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), &k.to_lowercase()), k)).min()?;
    (best.0 <= 1 + best.1.len() / 4 && best.0 < best.1.len()).then_some(best.1)
}
