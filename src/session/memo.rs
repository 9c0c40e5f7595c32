//! What did the cookies of this connection's last request come to?
//!
//! A browser sends the same Cookie field with every request of a connection. The field's exact
//! bytes stand for what was verified about them: an HMAC, a decoding and a search for our cookies
//! in every spelling are then one comparison. Whether the session still lives is asked each time,
//! and so is the token's own end; nothing but the reading of the bytes is remembered, and a field
//! that was refused never is.

use std::cell::RefCell;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

use super::cookie::{self, BadCookie, Presented, SessionToken};
use super::jar;
use crate::base::clock::Timestamp;
use crate::crypto::KeyRing;
use crate::domain::host::HostName;

/// The last good Cookie field of one connection. Not shared between threads, nor connections.
#[derive(Debug, Default)]
pub struct CookieMemo(RefCell<Option<Box<Remembered>>>);

#[derive(Debug)]
struct Remembered {
    /// The bytes of the one Cookie field.
    field: Box<[u8]>,
    host: HostName,
    /// The very ring it was verified with: another ring remembers nothing.
    keys: Arc<KeyRing>,
    token: SessionToken,
    /// The end that the token names, seconds since 1970.
    expires: i64,
    /// What the app gets of the field.
    rest: Option<HeaderValue>,
}

impl CookieMemo {
    /// The same answer as [`cookie::read`].
    pub fn read(&self, headers: &HeaderMap, host: &HostName, keys: &Arc<KeyRing>, now: Timestamp) -> Presented {
        let Some(field) = only_field(headers) else { return cookie::read(headers, host, keys, now) };
        if let Some(known) = &*self.0.borrow()
            && *known.field == *field.as_bytes()
            && known.host == *host
            && Arc::ptr_eq(&known.keys, keys)
        {
            return if known.expires <= now.as_secs() {
                Presented::Bad(BadCookie::Expired)
            } else {
                Presented::Token(known.token.clone())
            };
        }
        let read = cookie::read_with_end(headers, host, keys, now);
        if let Ok(Some((token, expires))) = &read {
            let mut stripped = HeaderMap::new();
            stripped.insert(COOKIE, field.clone());
            jar::strip_ours(&mut stripped);
            // A copy: what hyper parsed shares its whole read buffer.
            let rest = stripped.get(COOKIE).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
            *self.0.borrow_mut() = Some(Box::new(Remembered {
                field: field.as_bytes().into(),
                host: host.clone(),
                keys: Arc::clone(keys),
                token: token.clone(),
                expires: *expires,
                rest,
            }));
        }
        read.into()
    }

    /// The same effect as [`jar::strip_ours`].
    pub fn strip_ours(&self, headers: &mut HeaderMap) {
        let known = self.0.borrow();
        match (&*known, only_field(headers)) {
            (Some(known), Some(field)) if *known.field == *field.as_bytes() => match &known.rest {
                Some(rest) => drop(headers.insert(COOKIE, rest.clone())),
                None => drop(headers.remove(COOKIE)),
            },
            _ => jar::strip_ours(headers),
        }
    }

    /// For a connection that waits idle: it holds no one's token meanwhile.
    pub fn forget(&self) {
        self.0.borrow_mut().take();
    }
}

/// The Cookie field where there is exactly one.
fn only_field(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut fields = headers.get_all(COOKIE).iter();
    let first = fields.next()?;
    fields.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::rng::SeededRng;
    use crate::domain::host::Scheme;

    struct World {
        memo: CookieMemo,
        keys: Arc<KeyRing>,
        now: Timestamp,
    }

    impl World {
        fn new() -> Self {
            let keys = Arc::new(KeyRing::ephemeral(&*SeededRng::new(7)));
            Self { memo: CookieMemo::default(), keys, now: Timestamp::from_secs(1_800_000_000) }
        }

        /// A Cookie field with a token for `name`, good for an hour.
        fn field(&self, name: &str) -> String {
            let token = SessionToken::generate(&*SeededRng::new(1));
            let set = cookie::set_cookie(&token, &host(name), &self.keys, self.now, Duration::from_secs(3600));
            format!("theme=dark; {}; lang=de", set.to_str().unwrap().split(';').next().unwrap())
        }

        fn read(&self, name: &str, fields: &[&str]) -> Presented {
            self.memo.read(&headers(fields), &host(name), &self.keys, self.now)
        }
    }

    fn host(name: &str) -> HostName {
        HostName::parse(name.as_bytes(), Scheme::Https).unwrap()
    }

    fn headers(fields: &[&str]) -> HeaderMap {
        fields.iter().map(|f| (COOKIE, HeaderValue::from_str(f).unwrap())).collect()
    }

    #[test]
    fn the_second_reading_says_what_the_first_said() {
        let world = World::new();
        let field = world.field("app.test");
        for _ in 0..3 {
            assert!(matches!(world.read("app.test", &[&field]), Presented::Token(_)));
            let mut sent = headers(&[&field]);
            world.memo.strip_ours(&mut sent);
            assert_eq!(sent[COOKIE], "theme=dark; lang=de");
        }
    }

    #[test]
    fn s_cook_4_what_was_verified_for_one_host_says_nothing_at_another() {
        let world = World::new();
        let field = world.field("app.test");
        assert!(matches!(world.read("app.test", &[&field]), Presented::Token(_)));
        assert!(matches!(world.read("other.test", &[&field]), Presented::Bad(BadCookie::WrongHost)));
    }

    #[test]
    fn s_cook_4_a_remembered_token_still_ends() {
        let mut world = World::new();
        let field = world.field("app.test");
        assert!(matches!(world.read("app.test", &[&field]), Presented::Token(_)));
        world.now = world.now.plus(Duration::from_secs(3600));
        assert!(matches!(world.read("app.test", &[&field]), Presented::Bad(BadCookie::Expired)));
    }

    #[test]
    fn s_cook_2_one_more_or_another_byte_is_verified_anew() {
        let world = World::new();
        let field = world.field("app.test");
        assert!(matches!(world.read("app.test", &[&field]), Presented::Token(_)));
        let last_of_tag = field.find("; lang").unwrap() - 1;
        let mut forged = field.clone().into_bytes();
        forged[last_of_tag] = if forged[last_of_tag] == b'A' { b'E' } else { b'A' };
        let forged = String::from_utf8(forged).unwrap();
        assert!(matches!(world.read("app.test", &[&forged]), Presented::Bad(BadCookie::Forged)));
        let twice = format!("{field}; __Host-Http-stepgate=x");
        assert!(matches!(world.read("app.test", &[&twice]), Presented::Bad(BadCookie::Doubled)));
        assert!(matches!(world.read("app.test", &[&field, &field]), Presented::Bad(BadCookie::Doubled)));
        let mut sent = headers(&[&field, "a=1"]);
        world.memo.strip_ours(&mut sent);
        assert_eq!(sent[COOKIE], "theme=dark; lang=de; a=1");
    }

    #[test]
    fn s_cook_4_another_key_ring_remembers_nothing() {
        let world = World::new();
        let field = world.field("app.test");
        assert!(matches!(world.read("app.test", &[&field]), Presented::Token(_)));
        let other = Arc::new(KeyRing::ephemeral(&*SeededRng::new(8)));
        let read = world.memo.read(&headers(&[&field]), &host("app.test"), &other, world.now);
        assert!(matches!(read, Presented::Bad(BadCookie::Forged)));
    }

    #[test]
    fn nothing_is_left_once_it_was_told_to_forget() {
        let world = World::new();
        assert!(matches!(world.read("app.test", &[&world.field("app.test")]), Presented::Token(_)));
        world.memo.forget();
        assert!(world.memo.0.borrow().is_none());
    }
}
