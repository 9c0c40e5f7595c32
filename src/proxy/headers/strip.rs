//! Which client fields never reach an app?
//!
//! The list is `tests/corpus/identity-headers.txt` (SECURITY.md 4.1): one source for this code and
//! for the tests. Back ends fold names (CGI, PHP, WSGI turn every odd byte into `_`), so names are
//! compared folded, and names with odd bytes do not pass at all unless the app lists them.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName};

use crate::domain::route::Identity;

/// Removes from a client's fields every name of list 4.1 in any spelling, the names that the app's
/// own identity uses, and names with bytes outside `A-Za-z0-9-` (S-ID-1, S-ID-2).
///
/// `pass_headers` keeps an odd or a *generic* name for an app that really reads it from clients;
/// it never keeps a name of the other sections. To be called on every route before anything else
/// looks at the fields, but after the client's address was read from a trusted proxy's fields.
pub fn client(headers: &mut HeaderMap, identity: &Identity) {
    // Nearly always empty, and then nothing is allocated.
    let gone: Vec<HeaderName> = headers.keys().filter(|name| !passes(name.as_str(), identity)).cloned().collect();
    for name in gone {
        headers.remove(&name);
    }
}

/// Whether a field of this name (lower case, as `HeaderName` holds it) may go on to the app.
fn passes(name: &str, identity: &Identity) -> bool {
    if LIST.knows_harmless(name) {
        return !injected(name, identity);
    }
    if name.bytes().all(plain) {
        return match LIST.class(name) {
            None => !injected(name, identity),
            Some(Class::Generic) => listed(name, identity) && !injected(name, identity),
            Some(Class::Always) => false,
        };
    }
    let folded = fold(name);
    listed(name, identity) && LIST.class(&folded) != Some(Class::Always) && !injected(&folded, identity)
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Lower case, every byte outside `a-z0-9` as `-`: how the most tolerant back end reads a name.
fn fold(name: &str) -> String {
    name.bytes().map(|b| b.to_ascii_lowercase()).map(|b| if plain(b) { char::from(b) } else { '-' }).collect()
}

/// Whether the gate itself sends a field that folds to this name.
fn injected(folded: &str, identity: &Identity) -> bool {
    identity.headers.iter().any(|(own, _)| {
        let own = own.as_str();
        own.len() == folded.len() && own.bytes().zip(folded.bytes()).all(|(a, b)| a == b || (!plain(a) && b == b'-'))
    })
}

fn listed(name: &str, identity: &Identity) -> bool {
    identity.pass_headers.iter().any(|pass| pass.eq_ignore_ascii_case(name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Always,
    /// Names that some apps really read from their own clients.
    Generic,
}

/// The entries of one [`place`], behind a filter that most names of real clients fail.
#[derive(Default)]
struct Bucket {
    /// Bit `n` set: some whole name here has `n` bytes.
    lengths: u64,
    exact: Vec<(&'static str, Class)>,
    prefixes: Vec<(&'static str, Class)>,
}

struct List {
    by_place: [Bucket; 52],
    /// By length, those of [`COMMON`] that are not listed.
    harmless: [Vec<&'static str>; 32],
}

/// What nearly every request is made of, found at once.
const COMMON: [&str; 30] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "dnt",
    "host",
    "if-modified-since",
    "if-none-match",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "te",
    "upgrade-insecure-requests",
    "user-agent",
    "x-requested-with",
];

static LIST: LazyLock<List> = LazyLock::new(|| List::read(SOURCE));

const SOURCE: &str = include_str!("../../../tests/corpus/identity-headers.txt");

impl List {
    fn read(source: &'static str) -> Self {
        let mut by_place: [Bucket; 52] = std::array::from_fn(|_| Bucket::default());
        let mut class = Class::Always;
        for line in source.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(section) = line.strip_prefix('[') {
                class = if section == "generic]" { Class::Generic } else { Class::Always };
                continue;
            }
            let Some(bucket) = place(line).and_then(|i| by_place.get_mut(i)) else { continue };
            match line.strip_suffix('*') {
                Some(prefix) => bucket.prefixes.push((prefix, class)),
                None => {
                    bucket.lengths |= 1_u64.checked_shl(u32::try_from(line.len()).unwrap_or(0)).unwrap_or(0);
                    bucket.exact.push((line, class));
                }
            }
        }
        // `x-user-*` is generic, and nothing generic may shadow an entry that always holds.
        for bucket in &mut by_place {
            bucket.exact.sort_by_key(|(_, class)| *class == Class::Generic);
            bucket.prefixes.sort_by_key(|(_, class)| *class == Class::Generic);
        }
        let mut list = Self { by_place, harmless: std::array::from_fn(|_| Vec::new()) };
        for name in COMMON {
            let is_listed = list.class(name).is_some();
            if let Some(known) = list.harmless.get_mut(name.len()).filter(|_| !is_listed) {
                known.push(name);
            }
        }
        list
    }

    fn knows_harmless(&self, name: &str) -> bool {
        self.harmless.get(name.len()).is_some_and(|known| known.contains(&name))
    }

    fn class(&self, folded: &str) -> Option<Class> {
        let bucket = self.by_place.get(place(folded)?)?;
        let by_prefix = bucket.prefixes.iter().find(|(prefix, _)| folded.starts_with(prefix)).map(|(_, class)| *class);
        let length = u32::try_from(folded.len()).ok().and_then(|n| bucket.lengths.checked_shr(n)).unwrap_or(0);
        if length & 1 == 0 {
            return by_prefix;
        }
        let whole = bucket.exact.iter().find(|(name, _)| *name == folded).map(|(_, class)| *class);
        if by_prefix == Some(Class::Always) { by_prefix } else { whole.or(by_prefix) }
    }
}

/// Where an entry stands that begins as this name: most begin with `x-`, and those are told apart by what
/// follows. Every prefix goes beyond `x-`, so it stands where its names are looked for.
fn place(name: &str) -> Option<usize> {
    let (letters, base) = match name.strip_prefix("x-") {
        Some(rest) => (rest, 26),
        None => (name, 0),
    };
    let first = *letters.as_bytes().first()?;
    first.is_ascii_lowercase().then(|| base + usize::from(first - b'a'))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::domain::route::IdentityValue;

    const TRUSTED: &str = include_str!("../../../tests/corpus/trusted-fields.txt");

    fn names() -> Vec<(String, bool)> {
        let mut generic = false;
        let mut out = Vec::new();
        for line in SOURCE.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if line.starts_with('[') {
                generic = line == "[generic]";
            } else {
                out.push((line.replace('*', "anything"), generic));
            }
        }
        assert!(out.len() > 120, "the list was read");
        out
    }

    fn with(fields: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
            headers.append(&name, HeaderValue::from_static("root"));
            headers.append(&name, HeaderValue::from_static("admin"));
        }
        headers
    }

    #[test]
    fn s_id_1_every_listed_name_goes_in_every_spelling() {
        for (name, _) in names() {
            for spelling in [name.clone(), name.replace('-', "_"), name.replace('-', "."), name.to_uppercase()] {
                let mut headers = with(&[&spelling, "accept"]);
                client(&mut headers, &Identity::default());
                assert_eq!(headers.len(), 2, "{spelling} stayed");
            }
        }
    }

    #[test]
    fn s_id_1_what_known_apps_take_for_a_trusted_proxys_word_is_on_the_list() {
        let lines = TRUSTED.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
        let mut count = 0;
        for (whose, fields) in lines.map(|line| line.rsplit_once(": ").expect("whose: names")) {
            for name in fields.split(' ') {
                let mut headers = with(&[name, &name.replace('-', "_")]);
                client(&mut headers, &Identity::default());
                assert!(headers.is_empty(), "{whose}: {name} stayed");
                assert!(LIST.class(&fold(name)).is_some(), "{whose}: {name} goes for its odd bytes alone");
                count += 1;
            }
        }
        assert!(count > 150, "the corpus was read");
    }

    #[test]
    fn s_id_1_only_generic_names_can_be_asked_for() {
        for (name, generic) in names() {
            for spelling in [name.clone(), name.replacen('-', "_", 1)] {
                let identity = Identity { pass_headers: vec![spelling.to_uppercase()], ..Identity::default() };
                let mut headers = with(&[&spelling]);
                client(&mut headers, &identity);
                assert_eq!(!headers.is_empty(), generic, "{spelling}");
            }
        }
    }

    #[test]
    fn s_id_1_the_apps_own_identity_fields_go_too() {
        let own = HeaderName::from_static("x-corp_login");
        let identity = Identity {
            headers: vec![(own, IdentityValue::User)],
            pass_headers: vec!["X-Corp_Login".to_owned(), "X.Corp.Login".to_owned()],
            ..Identity::default()
        };
        let mut headers = with(&["X-Corp-Login", "X-Corp_Login", "X.Corp.Login", "X-Corp-Logins"]);
        client(&mut headers, &identity);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-corp-logins"]);
    }

    #[test]
    fn s_id_2_odd_names_pass_only_when_listed() {
        let mut headers = with(&["Api_Version", "X~User", "Trace_Id", "x-trace-id"]);
        let identity = Identity { pass_headers: vec!["Trace_Id".to_owned()], ..Identity::default() };
        client(&mut headers, &identity);
        assert_eq!(headers.keys_len(), 2);
        assert!(headers.contains_key("trace_id") && headers.contains_key("x-trace-id"));
    }

    #[test]
    fn what_browsers_send_stays() {
        let fields = [
            "accept",
            "accept-encoding",
            "accept-language",
            "authorization",
            "cache-control",
            "cookie",
            "content-type",
            "content-length",
            "host",
            "if-none-match",
            "if-modified-since",
            "origin",
            "priority",
            "range",
            "referer",
            "sec-ch-ua",
            "sec-ch-ua-mobile",
            "sec-fetch-mode",
            "sec-fetch-site",
            "user-agent",
            "x-requested-with",
            "x-csrf-token",
            "x-api-key",
            // Credentials and settings that clients of these apps send of their own.
            "x-auth-token",
            "x-vault-token",
            "x-grafana-org-id",
            "x-citrix-isusinghttps",
            "x-rs-csrf-token",
            "x-rstudio-refresh-auth-creds",
            "x-qlik-xrfkey",
            "x-atlassian-token",
            "x-middleware-prefetch",
            "traceparent",
            "1-starts-with-a-digit",
        ];
        let mut headers = with(&fields);
        client(&mut headers, &Identity::default());
        assert_eq!(headers.keys_len(), fields.len());
    }
}
