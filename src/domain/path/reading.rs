//! Every reading that a back end could make of one path, without copying any.

use std::ops::ControlFlow;

use super::{CanonicalPath, Like};

/// What a reading may do to the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Judged as it stands, the app's default included.
    Full,
    /// Can only raise the verdict, and only by hitting a rule (S-PATH-4).
    Extra,
}

/// One reading of a path: `text`, with a slash after it where `slash` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    pub text: &'a str,
    pub slash: bool,
    /// Compared with patterns whose letter case is folded too.
    pub folded: bool,
    pub weight: Weight,
}

/// Cuts of one suffix are bounded: a path of 8 KiB of dots must not cost thousands of readings.
const MAX_CUTS: usize = 8;

/// What comes before `/` as a script, the rest being its argument.
const SCRIPTS: [&str; 9] = [".php", ".phtml", ".phar", ".asp", ".aspx", ".ashx", ".asmx", ".cgi", ".pl"];

impl Reading<'_> {
    /// As people write it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{}", self.text, if self.slash { "/" } else { "" })
    }
}

impl CanonicalPath {
    /// Hands every reading to `judge`, full ones first, until it breaks. `patterns_fold` says
    /// whether folding changes a pattern: otherwise a path without capitals reads the same folded.
    pub fn each_reading<'a, B>(
        &'a self,
        patterns_fold: bool,
        mut judge: impl FnMut(Reading<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let own = (&*self.forwarded, self.folded.as_deref());
        let first = self.first.as_ref().map_or(own, |t| (&*t.exact, t.folded.as_deref()));
        let texts = || std::iter::once(first).chain(self.more.iter().map(|t| (&*t.exact, t.folded.as_deref())));

        // IIS knows no letter case: the folded text is its only reading.
        let always_folded = self.like == Some(Like::Iis);
        for (exact, folded) in texts() {
            let text = if always_folded { folded.unwrap_or(exact) } else { exact };
            judge(Reading { text, slash: false, folded: always_folded, weight: Weight::Full })?;
        }
        let folds = match self.like {
            None => true,
            Some(Like::Iis | Like::Unix | Like::Tomcat | Like::Php) => false,
        };
        for (exact, folded) in texts() {
            if always_folded {
                self.tails(folded.unwrap_or(exact), true, false, &mut judge)?;
                continue;
            }
            self.tails(exact, false, false, &mut judge)?;
            if folds && (patterns_fold || folded.is_some()) {
                self.tails(folded.unwrap_or(exact), true, true, &mut judge)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The extra readings of one text: without or with a trailing slash, without a format suffix,
    /// as a script with an argument. `itself` when the text as it stands was not judged yet.
    fn tails<'a, B>(
        &self,
        text: &'a str,
        folded: bool,
        itself: bool,
        judge: &mut impl FnMut(Reading<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut hand = |text: &'a str, slash: bool| {
            // The root has no other tail.
            let text = if text.is_empty() { "/" } else { text };
            let slash = slash && text != "/";
            judge(Reading { text, slash, folded, weight: Weight::Extra })
        };
        if itself {
            hand(text, false)?;
        }
        if self.like == Some(Like::Unix) {
            return ControlFlow::Continue(());
        }
        let bare = text.strip_suffix('/').unwrap_or(text);
        hand(bare, bare.len() == text.len())?;
        if self.like != Some(Like::Php) {
            let last = bare.rfind('/').map_or(0, |at| at + 1);
            let dots = bare.as_bytes().iter().enumerate().skip(last).filter(|(_, b)| **b == b'.').map(|(at, _)| at);
            let first = dots.clone().next();
            let cuts = dots.rev().take(MAX_CUTS).chain(first);
            for at in cuts {
                // `/admin/.json` cut is `/admin/`, whose slash the second reading adds.
                let stem = &bare[..at];
                let stem = stem.strip_suffix('/').unwrap_or(stem);
                hand(stem, false)?;
                hand(stem, true)?;
            }
        }
        if self.like != Some(Like::Tomcat) {
            let is_script = |at: &usize| SCRIPTS.iter().any(|ext| ends_with_fold(&text[..*at], ext));
            for at in text.match_indices('/').map(|(at, _)| at).skip(1).filter(is_script).take(MAX_CUTS) {
                hand(&text[..at], false)?;
                // A front controller routes its argument: `/index.php/admin/x` is `/admin/x`.
                hand(&text[at..], false)?;
            }
        }
        ControlFlow::Continue(())
    }
}

fn ends_with_fold(text: &str, end: &str) -> bool {
    text.len() > end.len()
        && text.as_bytes().get(text.len() - end.len()..).is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
}
