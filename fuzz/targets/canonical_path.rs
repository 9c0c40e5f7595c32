//! Is there a spelling of a protected path that the gate takes for another one?
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stepgate::base::clock::Timestamp;
use stepgate::base::net::ClientIp;
use stepgate::config::{Purpose, from_text};
use stepgate::domain::authn::Authn;
use stepgate::domain::path::{CanonicalPath, Like, PathForms};
use stepgate::domain::policy::{Content, Decision, Facts, Policy, decide};
use stepgate_fuzz::{naive, split};

const LIKES: [Option<Like>; 5] = [None, Some(Like::Unix), Some(Like::Iis), Some(Like::Tomcat), Some(Like::Php)];

fn forms(choice: u8) -> PathForms {
    PathForms {
        like: LIKES[usize::from(choice >> 3) % LIKES.len()],
        allow_encoded_slash: choice & 1 != 0,
        allow_path_params: choice & 2 != 0,
        allow_double_slash: choice & 4 != 0,
        allow_encoded_hash: choice >= 40,
    }
}

/// For each of the choices a policy that lets everybody in everywhere but at `/admin`.
static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| (0..80).map(|choice| policy(forms(choice))).collect());

fn policy(forms: PathForms) -> Policy {
    let like = match forms.like {
        None => "",
        Some(Like::Unix) => "like: unix, ",
        Some(Like::Iis) => "like: iis, ",
        Some(Like::Tomcat) => "like: tomcat, ",
        Some(Like::Php) => "like: php, ",
    };
    let allowed = [
        ("encoded_slash", forms.allow_encoded_slash),
        ("path_params", forms.allow_path_params),
        ("double_slash", forms.allow_double_slash),
        ("encoded_hash", forms.allow_encoded_hash),
    ];
    let allowed: Vec<_> = allowed.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    let text = format!(
        "version: 1\nlisten: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\napps:\n- app: a\n  hosts: [a.example]\n  \
         upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n  paths: {{ {like}allow: [{}] }}\n  allow: [anyone]\n  \
         require: none\n  rules: [{{ name: closed, match: {{ path: [/admin, /admin/**] }}, deny: Closed. }}]\n",
        allowed.join(", ")
    );
    let (snapshot, _) = from_text(&text, Path::new("."), Purpose::Check).expect("a policy");
    snapshot.routes.app("a").expect("the app").policy.clone()
}

/// What an app may make of a path that passed, beside what it says.
fn readings(path: &str, forms: PathForms) -> Vec<String> {
    let mut all = vec![String::from_utf8(naive::decoded(path.as_bytes(), false)).expect("it was UTF-8")];
    // Only what is kept as an escape by name may still be one in a second round.
    let again = naive::decoded(all[0].as_bytes(), false);
    assert_eq!(again, all[0].as_bytes(), "{path:?} reads otherwise when it is decoded twice");
    if forms.allow_path_params || forms.like == Some(Like::Tomcat) {
        let cut: Vec<_> = path.split('/').map(|s| s.split(';').next().unwrap_or_default()).collect();
        let cut = naive::decoded(cut.join("/").as_bytes(), false);
        all.push(String::from_utf8(cut).expect("it was UTF-8"));
    }
    if forms.allow_encoded_hash {
        for text in all.clone() {
            all.push(text.split('#').next().unwrap_or_default().to_owned());
        }
    }
    for text in all.clone() {
        all.push(naive::resolved(&text));
    }
    if matches!(forms.like, None | Some(Like::Iis)) {
        for text in all.clone() {
            all.push(text.to_ascii_lowercase());
        }
    }
    if forms.like.is_none() {
        for text in all.clone() {
            let last = text.rfind('/').map_or(0, |at| at + 1);
            if let Some(dot) = text[last..].find('.') {
                all.push(text[..last + dot].to_owned());
            }
            all.push(text.trim().to_owned());
        }
    }
    all
}

fn is_admin(reading: &str) -> bool {
    reading == "/admin" || reading.starts_with("/admin/")
}

fn check_bytes(path: &str, forms: PathForms) {
    let bytes = path.as_bytes();
    assert_eq!(bytes[0], b'/', "{path:?}");
    for (at, byte) in bytes.iter().enumerate() {
        let params = forms.allow_path_params || forms.like == Some(Like::Tomcat);
        assert!(byte.is_ascii_graphic() && !b"\\?#\"<>`{}".contains(byte), "{path:?}");
        assert!(params || *byte != b';', "{path:?}");
        if *byte != b'%' {
            continue;
        }
        let hex = path.get(at + 1..at + 3).expect("a whole escape");
        assert!(hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')), "{path:?}");
        let value = u8::from_str_radix(hex, 16).expect("hexadecimal digits");
        assert!(!value.is_ascii_control() && !b"\\;?".contains(&value), "{path:?}");
        assert!(value != b'#' || forms.allow_encoded_hash, "{path:?}");
        assert!(!value.is_ascii_alphanumeric() && !b"-._~".contains(&value), "{path:?} has two spellings");
        assert!(value != b'/' || forms.allow_encoded_slash, "{path:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([choice], text)) = split(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let choice = choice % 80;
    let forms = forms(choice);
    let Ok(path) = CanonicalPath::parse(text, forms) else { return };
    check_bytes(path.as_str(), forms);
    // The same bytes, the same readings: one value for one path.
    assert_eq!(CanonicalPath::parse(path.as_str(), forms).as_ref(), Ok(&path), "{text:?}");
    // What is taken with less allowed is the same path with more.
    let more = PathForms { allow_encoded_slash: true, allow_double_slash: true, allow_encoded_hash: true, ..forms };
    let with_more = CanonicalPath::parse(text, more).map(|path| path.as_str().to_owned());
    assert_eq!(with_more.as_deref(), Ok(path.as_str()), "{text:?}");

    let method = http::Method::GET;
    let facts = Facts {
        method: &method,
        also_methods: &[],
        content: &Content::Nothing,
        path: &path,
        query: None,
        client: ClientIp::new([192, 0, 2, 1].into()),
        authn: &Authn::Anonymous,
        now: Timestamp::from_secs(1_795_000_000),
    };
    let allowed = matches!(decide(&POLICIES[usize::from(choice)], &facts, &mut ()), Decision::Allow(_));
    let all = readings(path.as_str(), forms);
    assert!(!all.iter().any(|r| r.split('/').nth(1).is_some_and(|s| s == ".stepgate")), "{text:?}");
    if let Some(reading) = all.iter().find(|r| is_admin(r)) {
        assert!(!allowed, "{text:?} is {reading:?} to some app with {forms:?}, and passed");
    } else if forms.like == Some(Like::Unix) && !text.contains(['%', ';']) {
        assert!(allowed, "{text:?} was taken for /admin with {forms:?}");
    }
});
