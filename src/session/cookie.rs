//! What does the session cookie of this request say? It names a session at one host and nothing
//! else; the evidence stays in the store.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use data_encoding::BASE64URL_NOPAD;
use http::HeaderMap;
use http::header::HeaderValue;
use serde::{Deserialize, Serialize};

use super::jar::{self, Ours};
use crate::base::clock::Timestamp;
use crate::base::rng::{self, Rng};
use crate::base::secret::Secret;
use crate::crypto::hs256::TokenError;
use crate::crypto::{KeyRing, sha256};
use crate::domain::host::HostName;

/// `__Host-`: Secure, no Domain, Path=/, so no sibling host can set it. `Http-`: newer browsers
/// refuse copies set by script. Older ones take both for part of a name.
pub const NAME: &str = "__Host-Http-stepgate";
/// How a right Cookie field says it.
pub(super) const NAME_EQUALS: &[u8] = b"__Host-Http-stepgate=";

/// Longer than any token of ours can be; what browsers keep of a cookie (RFC 6265 section 6.1).
const MAX_VALUE: usize = 4096;

/// The secret behind one cookie: 128 random bits (S-SESS-1). It opens one session at one host.
#[derive(Clone, Debug)]
pub struct SessionToken(Secret<[u8; 16]>);

impl SessionToken {
    #[must_use]
    pub fn generate(rng: &dyn Rng) -> Self {
        Self(Secret::new(rng::bytes(rng)))
    }

    /// What the store holds in its place.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(self.0.expose())
    }

    pub(super) fn expose(&self) -> &[u8; 16] {
        self.0.expose()
    }
}

/// What a request's cookies say about its session.
#[derive(Debug)]
pub enum Presented {
    Absent,
    /// Signed by us for this host and not out of date. Whether the session still lives, only the
    /// store knows.
    Token(SessionToken),
    Bad(BadCookie),
}

/// Why a session cookie is not believed. All but `Expired` are refused on every route, public ones
/// too; `Expired` is as good as absent (S-SESS-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadCookie {
    /// Two of them, in whatever spelling: somebody else set one, and which is anyone's guess.
    Doubled,
    Malformed,
    Forged,
    WrongHost,
    Expired,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims<'a> {
    sid: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

/// A token and its end in seconds since 1970, nothing, or why what is there is bad.
pub(super) type Read = Result<Option<(SessionToken, i64)>, BadCookie>;

impl From<Read> for Presented {
    fn from(read: Read) -> Self {
        match read {
            Ok(Some((token, _))) => Self::Token(token),
            Ok(None) => Self::Absent,
            Err(bad) => Self::Bad(bad),
        }
    }
}

/// Looks at all Cookie fields together.
#[must_use]
pub fn read(headers: &HeaderMap, host: &HostName, keys: &KeyRing, now: Timestamp) -> Presented {
    read_with_end(headers, host, keys, now).into()
}

pub(super) fn read_with_end(headers: &HeaderMap, host: &HostName, keys: &KeyRing, now: Timestamp) -> Read {
    let mut sessions = jar::ours(headers).filter(|found| !matches!(found, Ours::Other));
    match (sessions.next(), sessions.next()) {
        (None, _) => Ok(None),
        (Some(Ours::Session(value)), None) => verify(value, host, keys, now).map(Some),
        (Some(_misspelt), None) => Err(BadCookie::Malformed),
        (Some(_), Some(_)) => Err(BadCookie::Doubled),
    }
}

/// The order of RFC 8725: signature and kind first (`crypto::hs256`), then for whom, then when.
fn verify(value: &[u8], host: &HostName, keys: &KeyRing, now: Timestamp) -> Result<(SessionToken, i64), BadCookie> {
    if value.len() > MAX_VALUE {
        return Err(BadCookie::Malformed);
    }
    let payload = keys.open_session_jwt(value).map_err(|error| match error {
        TokenError::Malformed => BadCookie::Malformed,
        TokenError::Forged => BadCookie::Forged,
    })?;
    let claims: Claims<'_> = serde_json::from_slice(&payload).map_err(|_| BadCookie::Malformed)?;
    if claims.aud != host.as_str() {
        return Err(BadCookie::WrongHost);
    }
    if claims.exp <= now.as_secs() {
        return Err(BadCookie::Expired);
    }
    let secret = BASE64URL_NOPAD.decode(claims.sid.as_bytes()).map_err(|_| BadCookie::Malformed)?;
    let secret = secret.try_into().map_err(|_| BadCookie::Malformed)?;
    Ok((SessionToken(Secret::new(secret)), claims.exp))
}

/// The Set-Cookie value that gives `token` to a browser at `host`, good for `max_age`.
#[must_use]
#[expect(clippy::expect_used, reason = "base64url, constants and a number make a header value")]
pub fn set_cookie(
    token: &SessionToken,
    host: &HostName,
    keys: &KeyRing,
    now: Timestamp,
    max_age: Duration,
) -> HeaderValue {
    let sid = BASE64URL_NOPAD.encode(token.expose());
    let claims = Claims { sid: &sid, aud: host.as_str(), iat: now.as_secs(), exp: now.plus(max_age).as_secs() };
    let payload = serde_json::to_vec(&claims).expect("texts and numbers serialise");
    let text = build(keys.sign_session_jwt(&payload), i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX));
    let mut value = HeaderValue::try_from(text).expect("a cookie of ours is a header value");
    value.set_sensitive(true);
    value
}

/// The Set-Cookie value that takes the session cookie away.
#[must_use]
#[expect(clippy::expect_used, reason = "constants make a header value")]
pub fn clear_cookie() -> HeaderValue {
    HeaderValue::try_from(build(String::new(), 0)).expect("a cookie of ours is a header value")
}

/// Set-Cookie values for the answer to a refused cookie: they take away what can have led to the
/// refusal, also copies in odd spellings, within another cookie, or set for a parent domain by a
/// sibling host. Without them the person would stay locked out until they find the browser's
/// settings (S-COOK-2).
// Doubt: a copy with a longer Path than `/` stays; we cannot see its path. Who is hurt: a person
// whose sibling host attacks them, on that path only.
#[must_use]
pub fn clear_all(headers: &HeaderMap, host: &HostName) -> Vec<HeaderValue> {
    let mut out = vec![clear_cookie()];
    let name = host.name();
    let domains = name.match_indices('.').map(|(at, _)| name.get(at + 1..).unwrap_or_default());
    let is_address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    let domains: Vec<&str> = if is_address { Vec::new() } else { [name].into_iter().chain(domains).collect() };
    let mut carriers: Vec<&[u8]> = Vec::new();
    for carrier in jar::carriers(headers) {
        if carriers.len() < MAX_CLEARED && !carrier.is_empty() && !carriers.contains(&carrier) {
            carriers.push(carrier);
        }
    }
    // A nameless cookie is sent as its bare value, which looks like any name (RFC 6265bis 5.8.3): it
    // goes in every case. It needs a value, or browsers take it for no cookie at all (5.7 step 2).
    let nameless: &[u8] = b"=gone";
    let with_equals = |carrier: &&[u8]| [carrier, &b"="[..]].concat();
    for pair in carriers.iter().map(with_equals).chain([nameless.to_vec()]) {
        let attributes = [String::new()].into_iter().chain(domains.iter().map(|d| format!("; Domain={d}")));
        for attribute in attributes {
            let text = [&*pair, b"; Path=/; Secure; Max-Age=0", attribute.as_bytes()].concat();
            out.extend(HeaderValue::from_bytes(&text));
        }
    }
    out
}

/// So many carriers at a time: the answer's head must pass the proxies in front of us (nginx takes
/// 4 KiB). What is left is taken away by the next answer.
const MAX_CLEARED: usize = 6;

fn build(value: String, max_age: i64) -> String {
    // Not the crate's to check: it prints any value as it is. Ours are base64url and dots.
    Cookie::build((NAME, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .max_age(cookie::time::Duration::seconds(max_age))
        .build()
        .to_string()
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    use super::*;
    use crate::base::rng::{SeededRng, SystemRng};
    use crate::domain::host::Scheme;

    fn host(name: &str) -> HostName {
        HostName::parse(name.as_bytes(), Scheme::Https).unwrap()
    }

    fn keys() -> KeyRing {
        KeyRing::ephemeral(&*SeededRng::new(7))
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(1_795_000_000)
    }

    const TEN_HOURS: Duration = Duration::from_secs(36_000);

    /// What a browser sends back.
    fn pair(set: &HeaderValue) -> String {
        set.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    fn issued(token: &SessionToken) -> String {
        pair(&set_cookie(token, &host("app.example"), &keys(), now(), TEN_HOURS))
    }

    fn presented(fields: &[&[u8]]) -> Presented {
        presented_at("app.example", fields, now())
    }

    fn presented_at(at: &str, fields: &[&[u8]], now: Timestamp) -> Presented {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        read(&headers, &host(at), &keys(), now)
    }

    fn bad(fields: &[&[u8]]) -> Option<BadCookie> {
        match presented(fields) {
            Presented::Bad(bad) => Some(bad),
            Presented::Absent | Presented::Token(_) => None,
        }
    }

    fn signed(claims: &serde_json::Value) -> String {
        format!("{NAME}={}", keys().sign_session_jwt(claims.to_string().as_bytes()))
    }

    #[test]
    fn s_cook_1_the_cookie_is_bound_to_the_host_and_out_of_scripts_reach() {
        let set = set_cookie(&SessionToken::generate(&SystemRng), &host("app.example"), &keys(), now(), TEN_HOURS);
        let text = set.to_str().unwrap();
        assert!(text.starts_with("__Host-Http-stepgate=ey"), "{text}");
        let mut attributes: Vec<_> = text.split("; ").skip(1).collect();
        attributes.sort_unstable();
        assert_eq!(attributes, ["HttpOnly", "Max-Age=36000", "Path=/", "SameSite=Lax", "Secure"]);
        assert!(text.len() < 1024, "{}", text.len());
        assert!(set.is_sensitive());
        let long = format!("{}.example", "a".repeat(240));
        let set = set_cookie(&SessionToken::generate(&SystemRng), &host(&long), &keys(), now(), TEN_HOURS);
        assert!(set.len() <= 4096, "{}", set.len());
    }

    #[test]
    fn what_was_given_is_recognised_among_other_cookies() {
        let token = SessionToken::generate(&SystemRng);
        let line = format!("theme=dark; {}; lang=de", issued(&token));
        match presented(&[b"a=1", line.as_bytes()]) {
            Presented::Token(read) => assert_eq!(read.hash(), token.hash()),
            other => panic!("{other:?}"),
        }
        assert!(matches!(presented(&[b"theme=dark"]), Presented::Absent));
        assert!(matches!(presented(&[]), Presented::Absent));
    }

    #[test]
    fn s_cook_2_two_session_cookies_are_refused_whatever_they_are_called() {
        let good = issued(&SessionToken::generate(&SystemRng));
        for second in [
            &b"__Host-Http-stepgate=x"[..],
            b"__host-http-stepgate=x",
            b"\xe2\x80\x80__Host-Http-stepgate=x",
            b"\"__Host-Http-stepgate\"=x",
            b"=__Host-Http-stepgate=x",
            b"__Host-Http-stepgate",
            b"a=b,__Host-Http-stepgate=x",
            good.as_bytes(),
        ] {
            let name = String::from_utf8_lossy(second);
            let both = [good.as_bytes(), b"; ", second].concat();
            assert_eq!(bad(&[&both]), Some(BadCookie::Doubled), "{name}");
            let turned = [second, b";", good.as_bytes()].concat();
            assert_eq!(bad(&[&turned]), Some(BadCookie::Doubled), "{name}");
            assert_eq!(bad(&[good.as_bytes(), second]), Some(BadCookie::Doubled), "{name} in a field of its own");
            let versioned = [b"$Version=1; ", good.as_bytes(), b"; $Path=/; ", second].concat();
            assert_eq!(bad(&[&versioned]), Some(BadCookie::Doubled), "{name} after $Version");
        }
    }

    #[test]
    fn s_cook_2_an_odd_spelling_alone_is_refused_and_the_answer_clears_it() {
        let value = issued(&SessionToken::generate(&SystemRng)).split_once('=').unwrap().1.to_owned();
        for name in ["__host-http-stepgate", "\u{2000}__Host-Http-stepgate", "\"__Host-Http-stepgate\""] {
            let line = format!("{name}={value}");
            assert_eq!(bad(&[line.as_bytes()]), Some(BadCookie::Malformed), "{name}");
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            let cleared = clear_all(&headers, &host("app.corp.example"));
            let cleared: Vec<_> = cleared.iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect();
            assert_eq!(cleared[0], clear_cookie().to_str().unwrap());
            for end in ["", "; Domain=app.corp.example", "; Domain=corp.example"] {
                let wanted = format!("{name}=; Path=/; Secure; Max-Age=0{end}");
                assert!(cleared.contains(&wanted), "{wanted} in {cleared:?}");
            }
        }
        assert_eq!(bad(&[format!("{NAME}=\"{value}\"").as_bytes()]), Some(BadCookie::Malformed), "quoted value");
    }

    /// A browser's jar for one host, as far as Set-Cookie without an age or with `Max-Age=0` goes
    /// (RFC 6265bis 5.7): name, Domain and value.
    #[derive(Default)]
    struct Browser(Vec<(Vec<u8>, String, Vec<u8>)>);

    impl Browser {
        fn takes(&mut self, set_cookie: &[u8]) {
            let mut parts = set_cookie.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let pair = parts.next().unwrap();
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()),
                None => (&b""[..], pair),
            };
            if name.is_empty() && value.is_empty() {
                return;
            }
            let attributes: Vec<_> = parts.map(|p| String::from_utf8_lossy(p).into_owned()).collect();
            let domain = attributes.iter().find_map(|a| a.strip_prefix("Domain=")).unwrap_or_default().to_owned();
            self.0.retain(|(n, d, _)| (n.as_slice(), d) != (name, &domain));
            if !attributes.iter().any(|a| a == "Max-Age=0") {
                self.0.push((name.to_vec(), domain, value.to_vec()));
            }
        }

        fn sends(&self) -> HeaderMap {
            let pairs = self.0.iter().map(|(name, _, value)| match name.as_slice() {
                b"" => value.clone(),
                name => [name, b"=", value].concat(),
            });
            let line = pairs.collect::<Vec<_>>().join(&b"; "[..]);
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_bytes(&line).unwrap());
            headers
        }
    }

    #[test]
    fn s_cook_2_whatever_carried_the_refused_cookie_nobody_stays_locked_out() {
        let good = issued(&SessionToken::generate(&SystemRng));
        for set in [
            &b"theme=1,__Host-Http-stepgate=x; Domain=corp.example"[..],
            b"theme=1,__Host-Http-stepgate=x",
            b"theme=1, a=2,__host-http-stepgate=x; Domain=app.corp.example",
            b"theme=\"1, __Host-Http-stepgate\"",
            b"x,__Host-Http-stepgate=1",
            b"=%5f_Host-Http-stepgate=x; Domain=corp.example",
            b"=%5f_Host-Http-stepgate=x",
            b"=__Host-Http-stepgate",
            b"__Host-Http-stepgate",
            b"=a,__Host-Http-stepgate=x",
            b"theme ==__Host-Http-stepgate,__Host-Http-stepgate=x",
            b"%5f_Host-Http-stepgate=x; Domain=corp.example",
            b"\xc2\xa0__Host-Http-stepgate=x; Domain=corp.example",
        ] {
            let shown = String::from_utf8_lossy(set);
            for with_ours in [false, true] {
                let mut browser = Browser::default();
                browser.takes(b"lang=de");
                if with_ours {
                    browser.takes(good.as_bytes());
                }
                browser.takes(set);
                let app = host("app.corp.example");
                let sent = browser.sends();
                assert!(matches!(read(&sent, &app, &keys(), now()), Presented::Bad(_)), "{shown} is refused");
                for clearing in clear_all(&sent, &app) {
                    browser.takes(clearing.as_bytes());
                }
                let sent = browser.sends();
                assert!(matches!(read(&sent, &app, &keys(), now()), Presented::Absent), "{shown} is gone: {sent:?}");
                assert_eq!(sent[COOKIE], "lang=de", "{shown}: other cookies stay");
            }
        }
    }

    #[test]
    fn s_cook_2_many_carriers_end_by_and_by_and_no_answer_grows_with_them() {
        let mut browser = Browser::default();
        for n in 0..20 {
            browser.takes(format!("c{n}=1,{NAME}=x; Domain=corp.example").as_bytes());
        }
        let app = host("app.corp.example");
        for _ in 0..4 {
            let cleared = clear_all(&browser.sends(), &app);
            assert!(cleared.iter().map(|v| v.len() + "set-cookie: \r\n".len()).sum::<usize>() < 3000);
            cleared.iter().for_each(|v| browser.takes(v.as_bytes()));
        }
        assert!(matches!(read(&browser.sends(), &app, &keys(), now()), Presented::Absent));
    }

    #[test]
    fn s_cook_4_each_forgery_fails() {
        let token = SessionToken::generate(&SystemRng);
        let good = issued(&token);
        let value = good.split_once('=').unwrap().1;
        let parts: Vec<_> = value.split('.').collect();
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
        let kid = keys().key_infos()[0].id.clone();
        let b64 = |json: &str| BASE64URL_NOPAD.encode(json.as_bytes());

        let mut forged = vec![
            // alg none, in three spellings, with and without our signature
            format!("{}.{}.", b64(r#"{"alg":"none"}"#), parts[1]),
            format!("{}.{}.{}", b64(r#"{"alg":"none","typ":"stepgate-session+jwt"}"#), parts[1], parts[2]),
            format!("{}.{}.{}", b64(&format!(r#"{{"alg":"None","kid":"{kid}"}}"#)), parts[1], parts[2]),
            // our header and claims, somebody else's signature, or none
            format!("{}.{}.{}", parts[0], parts[1], BASE64URL_NOPAD.encode(&[0; 32])),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            // edited claims under the old signature
            format!("{}.{}.{}", parts[0], b64(&claims.to_string().replace("1795", "1895")), parts[2]),
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "x".repeat(5000),
        ];
        // Whole tokens by a stock library: other algorithms, other kinds, keys named in the header.
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(kid.clone());
        header.typ = Some("stepgate-session+jwt".to_owned());
        let sign = |header: &Header, secret: &[u8]| {
            jsonwebtoken::encode(header, &claims, &EncodingKey::from_secret(secret)).unwrap()
        };
        let public = crate::crypto::AssertionSigner::from_ring(&keys()).jwks().to_owned();
        forged.push(sign(&header, b"guess"));
        forged.push(sign(&header, public.as_bytes()));
        for alg in [Algorithm::HS384, Algorithm::HS512] {
            forged.push(sign(&Header { alg, ..header.clone() }, b"guess"));
        }
        forged.push(sign(&Header { jku: Some("https://evil.example/jwks".into()), ..header.clone() }, b"guess"));
        forged.push(sign(&Header { x5u: Some("https://evil.example/x".into()), ..header.clone() }, b"guess"));
        let jwk = serde_json::from_str::<jsonwebtoken::jwk::JwkSet>(&public).unwrap().keys.remove(0);
        forged.push(sign(&Header { jwk: Some(jwk), ..header.clone() }, b"guess"));
        // The same claims honestly signed by another ring, and by another purpose's key.
        let stranger = KeyRing::ephemeral(&SystemRng);
        forged.push(stranger.sign_session_jwt(claims.to_string().as_bytes()));
        let signed_part = format!("{}.{}", parts[0], parts[1]);
        let other_purpose = keys().mac(crate::crypto::Purpose::FormToken, signed_part.as_bytes());
        forged.push(format!("{signed_part}.{}", BASE64URL_NOPAD.encode(&other_purpose)));

        for value in forged {
            let found = bad(&[format!("{NAME}={value}").as_bytes()]);
            assert!(matches!(found, Some(BadCookie::Forged | BadCookie::Malformed)), "{value}: {found:?}");
        }
    }

    #[test]
    fn s_cook_4_a_header_that_differs_in_one_field_is_forged_even_with_a_right_signature() {
        // With our own key: only the pinned bytes stand between such a token and the claims.
        let ours = issued(&SessionToken::generate(&SystemRng));
        let claims = ours.split('.').nth(1).unwrap();
        let kid = keys().key_infos()[0].id.clone();
        for header in [
            format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
            r#"{"alg":"HS256","typ":"stepgate-session+jwt"}"#.to_owned(),
            r#"{"alg":"HS256","typ":"stepgate-session+jwt","kid":"zzzzzzzz"}"#.to_owned(),
            format!(r#"{{"alg":"HS512","typ":"stepgate-session+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"typ":"stepgate-session+jwt","alg":"HS256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","typ":"stepgate-session+jwt","kid":"{kid}","jku":"https://evil"}}"#),
        ] {
            let signed = format!("{}.{claims}", BASE64URL_NOPAD.encode(header.as_bytes()));
            let tag = keys().mac(crate::crypto::Purpose::Cookie, signed.as_bytes());
            let line = format!("{NAME}={signed}.{}", BASE64URL_NOPAD.encode(&tag));
            assert_eq!(bad(&[line.as_bytes()]), Some(BadCookie::Forged), "{header}");
        }
    }

    #[test]
    fn s_cook_4_a_cookie_of_one_host_is_refused_at_every_other() {
        let good = issued(&SessionToken::generate(&SystemRng));
        for other in ["wiki.example", "app.example:8443", "a.app.example", "example"] {
            let found = presented_at(other, &[good.as_bytes()], now());
            assert!(matches!(found, Presented::Bad(BadCookie::WrongHost)), "{other}: {found:?}");
        }
    }

    #[test]
    fn s_cook_4_the_last_second_counts_and_the_next_does_not() {
        let good = issued(&SessionToken::generate(&SystemRng));
        let end = now().plus(TEN_HOURS);
        let before = presented_at("app.example", &[good.as_bytes()], end.minus(Duration::from_secs(1)));
        assert!(matches!(before, Presented::Token(_)));
        let after = presented_at("app.example", &[good.as_bytes()], end);
        assert!(matches!(after, Presented::Bad(BadCookie::Expired)));
    }

    #[test]
    fn s_cook_4_claims_that_are_not_exactly_ours_are_refused() {
        let sid = BASE64URL_NOPAD.encode(&[5; 16]);
        let good = serde_json::json!({"sid": sid, "aud": "app.example", "iat": 1, "exp": 9_000_000_000_i64});
        assert_eq!(bad(&[signed(&good).as_bytes()]), None);
        let edits: [(&str, serde_json::Value); 7] = [
            ("sid", serde_json::json!("")),
            ("sid", serde_json::json!(BASE64URL_NOPAD.encode(&[5; 15]))),
            ("sid", serde_json::json!(BASE64URL_NOPAD.encode(&[5; 17]))),
            ("sid", serde_json::json!(5)),
            ("aud", serde_json::json!(["app.example"])),
            ("exp", serde_json::json!("9000000000")),
            ("admin", serde_json::json!(true)),
        ];
        for (key, value) in edits {
            let mut claims = good.clone();
            claims[key] = value.clone();
            assert_eq!(bad(&[signed(&claims).as_bytes()]), Some(BadCookie::Malformed), "{key} = {value}");
        }
        for missing in ["sid", "aud", "iat", "exp"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(missing);
            assert_eq!(bad(&[signed(&claims).as_bytes()]), Some(BadCookie::Malformed), "without {missing}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_cookie_line_panics_or_is_believed(line in proptest::collection::vec(0x20_u8..=0xff, 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.append(COOKIE, value);
                let found = read(&headers, &host("app.example"), &keys(), now());
                proptest::prop_assert!(!matches!(found, Presented::Token(_)));
                jar::strip_ours(&mut headers);
                proptest::prop_assert!(jar::ours(&headers).next().is_none());
            }
        }
    }
}
