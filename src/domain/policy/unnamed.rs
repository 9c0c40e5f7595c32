//! Which files may an app run for a path that does not name them?
//!
//! A web server runs `/admin/index.php` for `/admin/` and, where it hides endings (`MultiViews`,
//! `try_files $uri.html`, a rewrite), `/admin.php` for `/admin`. A rule that names such a file is
//! asked for both, as an extra reading: it can only make the verdict stricter (S-PATH-4). A pattern
//! with a wildcard at its end names no file: `/*.php` would close every public page of a site.

use super::pattern::{PathPattern, Segment};
use super::rule::Rule;
use crate::domain::path::{CanonicalPath, Like, PathForms, Reading, Weight, fold};

/// Endings of files that are run or shown as a page.
const PAGES: [&str; 12] = ["php", "phtml", "html", "htm", "xhtml", "shtml", "asp", "aspx", "jsp", "cgi", "pl", "cfm"];
/// Names of files that stand for their folder.
const FOR_A_FOLDER: [&str; 2] = ["index", "default"];

/// What the files that rules name may have behind a path: `.php`, `/index.php`.
#[derive(Clone, Debug, Default)]
pub(super) struct Unnamed {
    ends: Vec<End>,
    /// The patterns that name them.
    patterns: Vec<PathPattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    exact: Box<str>,
    folded: Box<str>,
}

/// A path with the name of a file that may be run for it.
pub(super) struct Named {
    text: String,
    folded: bool,
}

impl Named {
    pub(super) fn reading(&self) -> Reading<'_> {
        Reading { text: &self.text, slash: false, folded: self.folded, weight: Weight::Extra }
    }
}

impl Unnamed {
    pub(super) fn new(rules: &[Rule], forms: PathForms) -> Self {
        let mut found = Self::default();
        // Read exactly as written, a folder and its file are two paths.
        if forms.like == Some(Like::Unix) {
            return found;
        }
        for pattern in rules.iter().flat_map(|rule| &rule.matcher.paths) {
            if let Some(Segment::Literal(file)) = pattern.segments(false).and_then(<[Segment]>::last)
                && found.add(file)
            {
                found.patterns.push(pattern.clone());
            }
        }
        found
    }

    fn add(&mut self, file: &str) -> bool {
        let Some((stem, end)) = file.rsplit_once('.') else { return false };
        if stem.is_empty() || !PAGES.iter().any(|page| page.eq_ignore_ascii_case(end)) {
            return false;
        }
        self.put(format!(".{end}"));
        if FOR_A_FOLDER.iter().any(|name| name.eq_ignore_ascii_case(stem)) {
            self.put(format!("/{file}"));
        }
        true
    }

    fn put(&mut self, end: String) {
        let end = End { folded: fold(&end).into(), exact: end.into() };
        if !self.ends.contains(&end) {
            self.ends.push(end);
        }
    }

    /// Every such file for a path. Nothing is allocated where no rule names one.
    pub(super) fn of(&self, path: &CanonicalPath, patterns_fold: bool) -> Vec<Named> {
        if self.ends.is_empty() {
            return Vec::new();
        }
        let mut named = Vec::new();
        for (text, folded) in path.whole_texts(patterns_fold) {
            let bare = text.strip_suffix('/').unwrap_or(text);
            for end in &self.ends {
                let end = if folded { &end.folded } else { &end.exact };
                // The root has no name to put an ending to.
                if bare.is_empty() && !end.starts_with('/') {
                    continue;
                }
                let candidate = Named { text: [bare, end].concat(), folded };
                if self.patterns.iter().any(|pattern| pattern.matches(&candidate.reading())) {
                    named.push(candidate);
                }
            }
        }
        named
    }
}
