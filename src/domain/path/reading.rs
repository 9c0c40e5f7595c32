//! Every reading that a back end could make of one path, without copying any.

use std::ops::ControlFlow;

use super::{CanonicalPath, Like, Text};

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
/// The first dot always counts, and the last ones.
const MAX_CUTS: usize = 8;
/// The same for scripts and their arguments, whose cuts multiply with the scripts.
const MAX_SCRIPT_CUTS: usize = 1;
/// So many scripts of one path are told apart: the first ones and the last. Web servers take the
/// first that is a file, or the last (`^(.+\.php)(/.+)$`).
const MAX_SCRIPTS: usize = 3;

/// What comes before `/` as a script, the rest being its argument: of PHP, ASP, ColdFusion and CGI.
const SCRIPTS: [&str; 27] = [
    ".php", ".php3", ".php4", ".php5", ".php7", ".php8", ".phtml", ".pht", ".phar", ".asp", ".aspx", ".ashx", ".asmx",
    ".svc", ".cfm", ".cfc", ".cgi", ".fcgi", ".pl", ".py", ".rb", ".sh", ".lua", ".exe", ".dll", ".jsp", ".shtml",
];

impl Reading<'_> {
    /// As people write it.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{}", self.text, if self.slash { "/" } else { "" })
    }
}

impl Text {
    fn both(&self) -> (&str, Option<&str>) {
        (&self.exact, self.folded.as_deref())
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
        let own = (&*self.forwarded, self.folded.as_deref(), Weight::Full);
        let parts = |t: &'a Text| (&*t.exact, t.folded.as_deref(), t.weight);
        let first = self.first.as_ref().map_or(own, parts);
        let texts = || std::iter::once(first).chain(self.more.iter().map(parts));

        // IIS knows no letter case: the folded text is its only reading.
        let always_folded = self.like == Some(Like::Iis);
        for (exact, folded, weight) in texts() {
            if weight == Weight::Full {
                let text = if always_folded { folded.unwrap_or(exact) } else { exact };
                judge(Reading { text, slash: false, folded: always_folded, weight })?;
            }
        }
        let folds = match self.like {
            None => true,
            Some(Like::Iis | Like::Unix | Like::Tomcat | Like::Php) => false,
        };
        for (exact, folded, weight) in texts() {
            let not_judged_yet = weight == Weight::Extra;
            if always_folded {
                self.tails(folded.unwrap_or(exact), true, not_judged_yet, &mut judge)?;
                continue;
            }
            self.tails(exact, false, not_judged_yet, &mut judge)?;
            if folds && (patterns_fold || folded.is_some()) {
                self.tails(folded.unwrap_or(exact), true, true, &mut judge)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Every text as a whole, with nothing cut off: what a file's name may be put to.
    pub fn whole_texts(&self, patterns_fold: bool) -> impl Iterator<Item = (&str, bool)> {
        let own = (&*self.forwarded, self.folded.as_deref());
        let first = self.first.as_ref().map_or(own, Text::both);
        let (exact, folds) = (self.like != Some(Like::Iis), matches!(self.like, None | Some(Like::Iis)));
        std::iter::once(first).chain(self.more.iter().map(Text::both)).flat_map(move |(text, folded)| {
            let as_written = exact.then_some((text, false));
            let without_case =
                (folds && (patterns_fold || folded.is_some() || !exact)).then_some((folded.unwrap_or(text), true));
            as_written.into_iter().chain(without_case)
        })
    }

    /// The extra readings of one text: without or with a trailing slash, without a format suffix,
    /// as a script with an argument, and each of these cuts upon another: an app behind a front
    /// controller reads the argument as freely as one without. `itself` when the text as it stands
    /// was not judged yet.
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
        let kinds = match self.like {
            Some(Like::Unix) => return ControlFlow::Continue(()),
            None | Some(Like::Iis) => (true, true),
            Some(Like::Tomcat) => (true, false),
            Some(Like::Php) => (false, true),
        };
        let bare = text.strip_suffix('/').unwrap_or(text);
        hand(bare, bare.len() == text.len())?;
        // Without a dot there is neither a suffix nor a script.
        let (suffixes, scripts) = if text.bytes().any(|b| b == b'.') { kinds } else { (false, false) };
        if suffixes {
            cut_suffixes(bare, MAX_CUTS, &mut hand)?;
        }
        if !scripts {
            return ControlFlow::Continue(());
        }
        let found = Scripts::of(text);
        for (n, at) in found.ends().enumerate() {
            // Every script, from the root or from behind another one.
            for from in std::iter::once(0).chain(found.ends().take(n)) {
                let script = &text[from..at];
                hand(script, false)?;
                hand(script, true)?;
                if suffixes {
                    cut_suffixes(script, MAX_SCRIPT_CUTS, &mut hand)?;
                }
            }
            // A front controller routes its argument: `/index.php/admin/x` is `/admin/x`.
            let argument = &text[at..];
            let argument = argument.strip_suffix('/').unwrap_or(argument);
            hand(argument, false)?;
            hand(argument, true)?;
            if suffixes {
                cut_suffixes(argument, MAX_SCRIPT_CUTS, &mut hand)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The text without what follows a dot of its last segment: the first dot, and so many of the last
/// ones (all when there are no more).
fn cut_suffixes<'a, B>(
    bare: &'a str,
    last_ones: usize,
    hand: &mut impl FnMut(&'a str, bool) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let last = bare.rfind('/').map_or(0, |at| at + 1);
    let dots = bare.as_bytes().iter().enumerate().skip(last).filter(|(_, b)| **b == b'.').map(|(at, _)| at);
    let first = dots.clone().next();
    let mut lowest = bare.len();
    for at in dots.rev().take(last_ones).chain(first) {
        if std::mem::replace(&mut lowest, at) == at {
            continue;
        }
        // `/admin/.json` cut is `/admin/`, whose slash the second reading adds.
        let stem = &bare[..at];
        let stem = stem.strip_suffix('/').unwrap_or(stem);
        hand(stem, false)?;
        hand(stem, true)?;
    }
    ControlFlow::Continue(())
}

/// The path as an app below a folder routes it: `/wiki/index.php/admin/x` is `/wiki/admin/x` where
/// the front controller stands in `/wiki` (for one at the root the argument alone says it). Of the
/// first script only: web servers ask no file for what is behind it.
pub(super) fn without_script(text: &str, like: Option<Like>) -> Option<String> {
    match like {
        None | Some(Like::Iis | Like::Php) => {}
        Some(Like::Unix | Like::Tomcat) => return None,
    }
    let end = Scripts::of(text).ends().next()?;
    let start = text[..end].rfind('/').filter(|start| *start > 0)?;
    Some([&text[..start], &text[end..]].concat())
}

/// Where the scripts of a path end: at the slash before their argument.
struct Scripts {
    ends: [usize; MAX_SCRIPTS],
    count: usize,
}

impl Scripts {
    fn of(text: &str) -> Self {
        let mut found = Self { ends: [0; MAX_SCRIPTS], count: 0 };
        // Most paths hold no dot, and none of their slashes is worth a look.
        if !text.as_bytes().contains(&b'.') {
            return found;
        }
        let is_script = |at: &usize| SCRIPTS.iter().any(|ext| ends_with_fold(&text[..*at], ext));
        for at in text.match_indices('/').map(|(at, _)| at).skip(1).filter(is_script) {
            if let Some(end) = found.ends.get_mut(found.count.min(MAX_SCRIPTS - 1)) {
                *end = at;
            }
            found.count = (found.count + 1).min(MAX_SCRIPTS);
        }
        found
    }

    fn ends(&self) -> impl Iterator<Item = usize> {
        self.ends.into_iter().take(self.count)
    }
}

fn ends_with_fold(text: &str, end: &str) -> bool {
    text.len() > end.len()
        && text.as_bytes().get(text.len() - end.len()..).is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
}
