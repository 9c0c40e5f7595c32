//! Which of the files that rules name may a path give an argument to?
//!
//! A server that runs files hands one what stands behind it as an argument (`PATH_INFO`):
//! `/pay.html/x` runs `/pay.html` wherever the server was told to run `.html`. The usual endings of
//! scripts are cut for every path ([`CanonicalPath::each_reading`]); which others a server runs only
//! its configuration knows. So every file that a pattern names is met with an argument too, as an extra
//! reading: it can only make the verdict stricter (S-PATH-4).
//!
//! [`CanonicalPath::each_reading`]: crate::domain::path::CanonicalPath::each_reading

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::pattern::{PathPattern, Segment};
use super::rule::Rule;
use crate::domain::path::{Like, PathForms, Reading, Weight, fold};

/// So many of one path are told apart: the first ones and the last, as with scripts.
const MAX_FILES: usize = 4;
/// `/api/v1.2` and `/users/a.-b` name no file, nor does a name that only begins with a dot.
const LONGEST_ENDING: usize = 8;

/// The patterns that end in the name of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    patterns: Vec<PathPattern>,
    /// Their names, as written and without letter case: what is asked of each segment of a path.
    names: HashSet<Box<str>, foldhash::fast::RandomState>,
    /// What a name with a wildcard ends in.
    ends: Vec<Box<str>>,
}

impl Files {
    pub(super) fn new(rules: &[Rule], forms: PathForms) -> Self {
        let mut files = Self::default();
        match forms.like {
            None | Some(Like::Iis | Like::Php) => {}
            // Nothing is cut off, and what ends otherwise is another servlet's.
            Some(Like::Unix | Like::Tomcat) => return files,
        }
        for pattern in rules.iter().flat_map(|rule| &rule.matcher.paths) {
            match pattern.segments(false).and_then(<[Segment]>::last) {
                Some(Segment::Literal(name)) if name.rfind('.') != Some(0) && has_ending(name) => {
                    files.names.insert(name.clone());
                    files.names.insert(fold(name).into());
                }
                Some(Segment::Mixed(pieces)) if pieces.last().is_some_and(|last| has_ending(last)) => {
                    if let Some(end) = pieces.last() {
                        files.ends.extend([end.clone(), fold(end).into()]);
                    }
                }
                _ => continue,
            }
            files.patterns.push(pattern.clone());
        }
        files
    }

    /// Every such file that `reading` has an argument for.
    pub(super) fn each<'a, B>(
        &self,
        reading: Reading<'a>,
        judge: &mut impl FnMut(Reading<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let text = reading.text;
        if self.patterns.is_empty() || !text.as_bytes().contains(&b'.') {
            return ControlFlow::Continue(());
        }
        let (mut found, mut count) = ([0; MAX_FILES], 0);
        let mut start = 1;
        for (end, _) in text.match_indices('/').skip(1) {
            if text.get(start..end).is_some_and(|name| self.is_named(name)) {
                if let Some(place) = found.get_mut(count.min(MAX_FILES - 1)) {
                    *place = end;
                }
                count += 1;
            }
            start = end + 1;
        }
        for end in found.into_iter().take(count) {
            let Some(text) = text.get(..end) else { continue };
            let file = Reading { text, slash: false, folded: reading.folded, weight: Weight::Extra };
            if self.patterns.iter().any(|pattern| pattern.matches(&file)) {
                judge(file)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn is_named(&self, segment: &str) -> bool {
        segment.contains('.') && (self.names.contains(segment) || self.ends.iter().any(|end| segment.ends_with(&**end)))
    }
}

fn has_ending(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| {
        ending.starts_with(|c: char| c.is_ascii_alphabetic())
            && ending.len() <= LONGEST_ENDING
            && ending.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}
