//! In which language does somebody read our pages? In the one their browser asks for first, of those we have.

use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;
use serde::Serialize;

/// A language that the pages have words in; each is one file in `assets/text`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Language {
    #[default]
    English,
    French,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::English, Self::French];

    /// RFC 5646.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }

    /// The browser's wish (RFC 9110 section 12.5.4): the highest weight, of equal ones the first. A wish for a
    /// region is one for its language; who wishes nothing that we have reads English.
    #[must_use]
    pub fn wished(headers: &HeaderMap) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for range in headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let main = parts.next().and_then(|tag| tag.split('-').next()).unwrap_or_default();
            let Some(language) = Self::ALL.into_iter().find(|one| one.tag().eq_ignore_ascii_case(main)) else {
                continue;
            };
            let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
            // A weight that cannot be read is no wish.
            let weight = weight.map_or(1.0, |q| q.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0));
            if weight > best.map_or(0.0, |(most, _)| most) {
                best = Some((weight, language));
            }
        }
        best.map_or(Self::default(), |(_, language)| language)
    }

    /// A day, and a moment, for browsers without a script. French months have names that only a table of
    /// locales knows: figures there; `time.js` writes the name.
    pub(super) fn formats(self) -> (&'static str, &'static str) {
        match self {
            Self::English => ("%-d %B %Y", "%-d %b %Y, %H:%M"),
            Self::French => ("%d/%m/%Y", "%d/%m/%Y %H:%M"),
        }
    }

    /// Whether `n` things stand in the singular (CLDR: French has 0 and 1 there).
    pub(super) fn is_one(self, n: u64) -> bool {
        match self {
            Self::English => n == 1,
            Self::French => n < 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn reads(wish: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_str(wish).expect("a value"));
        Language::wished(&headers).tag()
    }

    #[test]
    fn the_browsers_first_wish_that_we_have_counts() {
        assert_eq!(reads("fr-CA,fr;q=0.8,en;q=0.5"), "fr");
        assert_eq!(reads("de-CH, de;q=0.9, en;q=0.3, fr;q=0.7"), "fr", "the heavier of those we have");
        assert_eq!(reads("en-US,en;q=0.9,fr;q=0.8"), "en");
        assert_eq!(reads("en;q=0.5, fr;q=0.5"), "en", "of equal ones the first");
        assert_eq!(reads("FR"), "fr", "tags have no case");
    }

    #[test]
    fn who_wishes_nothing_that_we_have_reads_english() {
        for wish in ["", "*", "de", "fr;q=0", "fr;q=x", "fr;q=7", "frr", ";;,,;q=1", "fry-NL"] {
            assert_eq!(reads(wish), "en", "{wish:?}");
        }
        assert_eq!(Language::wished(&HeaderMap::new()).tag(), "en");
    }
}
