//! Every page in every state: it renders, says what it should, and goes out with its headers.

#![expect(clippy::expect_used, reason = "helpers of tests say what they expected")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Response};
use jiff::tz::TimeZone;
use stepgate::domain::factor::FactorKind;
use stepgate::domain::notice::NoticeKind;
use stepgate::domain::portal::PortalRoute;
use stepgate::pages::{CodeFor, Language, Letter, Message, MessageKind, Page, Pages, Site, Words, assets, samples};

const WORDS: &str = include_str!("../../assets/text/en.json");

fn pages() -> std::sync::Arc<Pages> {
    Pages::with(Words::of, &TimeZone::UTC)
}

fn all() -> Vec<(String, Response<Bytes>)> {
    static ALL: LazyLock<Vec<(String, Response<Bytes>)>> = LazyLock::new(|| {
        let pages = pages();
        samples().into_iter().map(|(name, page)| (name, pages.render(&Site::sample(), &page))).collect()
    });
    ALL.clone()
}

fn text(answer: &Response<Bytes>) -> &str {
    std::str::from_utf8(answer.body()).expect("a page is UTF-8")
}

/// The tags of a page, in order: name, attributes, and whether it closes.
#[derive(Debug)]
struct Tag<'a> {
    name: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
    closes: bool,
}

impl Tag<'_> {
    fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).copied()
    }
}

/// Reads what our templates write: attributes in double quotes, no `>` inside a tag.
fn tags(html: &str) -> Vec<Tag<'_>> {
    html.split('<').skip(1).map(|piece| read_tag(piece.split_once('>').expect("a tag ends").0)).collect()
}

fn read_tag(inner: &str) -> Tag<'_> {
    let closes = inner.starts_with('/');
    let inner = inner.trim_start_matches('/').trim_end_matches('/');
    let (name, mut rest) = inner.split_once([' ', '\n']).unwrap_or((inner, ""));
    let mut attributes = BTreeMap::new();
    while !rest.trim().is_empty() {
        rest = rest.trim_start();
        let end = rest.find([' ', '=', '\n']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let (value, after) = match after.strip_prefix("=\"") {
            Some(quoted) => quoted.split_once('"').expect("an attribute ends"),
            None => {
                assert!(!after.starts_with('='), "an unquoted attribute in <{inner}>");
                ("", after)
            }
        };
        assert!(attributes.insert(key, value).is_none(), "{key} twice in <{inner}>");
        rest = after;
    }
    Tag { name, attributes, closes }
}

#[test]
fn every_page_renders_in_every_state() {
    let pages = pages();
    for (name, page) in samples() {
        if let Err(error) = pages.html(&Site::sample(), &page) {
            panic!("{name}: {error:#}");
        }
    }
}

/// `STEPGATE_DUMP_PAGES=dir cargo test --test it pages::` writes every page for looking at.
#[test]
fn pages_can_be_written_out_for_looking_at() {
    let Some(dir) = std::env::var_os("STEPGATE_DUMP_PAGES").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&dir).expect("a directory");
    for (name, answer) in all() {
        std::fs::write(dir.join(format!("{name}.html")), answer.body()).expect("written");
    }
}

/// S-OOB-2: a mail has one link at most, and none that signs anybody in.
#[test]
fn s_oob_2_every_mail_names_the_site_and_holds_no_link_but_the_one_that_says_no() {
    let pages = pages();
    for (name, letter) in Letter::samples() {
        let (subject, text) = pages.letter(&Site::sample(), &letter).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(subject.contains("Example Corp") && !subject.contains('\n'), "{name}: {subject}");
        let links = if matches!(name.as_str(), "code" | "enroll_reminder") { 0 } else { 1 };
        assert_eq!(text.matches("http").count(), links, "{name}: {text}");
        assert_eq!(text.matches("/.stepgate/not-me?code=").count(), links, "{name}: {text}");
        assert!(!subject.contains("123456"), "{name}: a subject stands on locked screens");
        assert!(text.is_ascii() && text.lines().all(|line| line.len() < 200), "{name}: {text}");
    }
}

/// Whoever has the password chooses what their program calls itself, and whoever adds a way to sign in its name.
#[test]
fn s_oob_2_no_mail_holds_a_sentence_of_a_strangers_program_or_a_link_of_their_making() {
    for (name, mut letter) in Letter::samples() {
        let Letter::Notice { notice, .. } = &mut letter else { continue };
        // Nothing that anybody chose stands in it, nor a link.
        if notice.kind == NoticeKind::EnrollReminder {
            continue;
        }
        notice.event.user_agent = Some("Confirm your account: https://evil.example/stepgate".to_owned());
        notice.event.factor = Some(format!("Go to https://bad.example/x or a@bad.example{}", " now".repeat(20)));
        let (_, text) = pages().letter(&Site::sample(), &letter).expect(&name);
        assert!(text.contains("Unknown program") && !text.contains("evil"), "{name}: {text}");
        assert!(!text.contains("bad.") && !text.contains("@bad") && !text.contains("now now"), "{name}: {text}");
        assert_eq!(text.matches("://").count(), 1, "{name}: {text}");
    }
}

#[test]
fn s_login_10_every_page_goes_out_with_its_headers() {
    for (name, answer) in all() {
        let header = |field: &str| {
            let value = answer.headers().get(field).unwrap_or_else(|| panic!("{name} lacks {field}"));
            value.to_str().expect("text").to_owned()
        };
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "style-src 'self'",
            "script-src 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        ] {
            // It carries a form of the app's, whose answer may lead anywhere.
            let apps_form = name.starts_with("send-form") && part.starts_with("form-action");
            let said = policy.split("; ").any(|p| p == part || p.starts_with(&format!("{part} ")));
            assert!(said != apps_form, "{name}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{name}: {policy}");
        for (field, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("strict-transport-security", "max-age=31536000"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(header(field), value, "{name}: {field}");
        }
        assert!(header("permissions-policy").contains("camera=()"));
    }
}

#[test]
fn hsts_is_sent_over_https_alone() {
    let (_, page) = samples().swap_remove(0);
    let answer = pages().render(&Site { https: false, ..Site::sample() }, &page);
    assert!(!answer.headers().contains_key("strict-transport-security"));
}

#[test]
fn s_login_10_no_page_holds_code_or_style_of_its_own() {
    for (name, answer) in all() {
        for tag in tags(text(&answer)) {
            assert_ne!(tag.name, "style", "{name}");
            assert_ne!(tag.get("href").map(|h| h.starts_with("javascript:")), Some(true), "{name}");
            for attribute in tag.attributes.keys() {
                assert!(!attribute.starts_with("on") && *attribute != "style", "{name}: {tag:?}");
            }
            if tag.name == "script" && !tag.closes {
                assert!(tag.get("src").is_some_and(|s| s.starts_with("/.stepgate/static/")), "{name}: {tag:?}");
            }
        }
        assert!(!text(&answer).replace("></script>", "").contains("</script>"), "{name}: a script has a body");
    }
}

#[test]
fn forms_may_lead_to_the_app_and_to_the_portal_and_nowhere_else() {
    let policy = |site: &Site, wanted: &str| {
        let (_, page) = samples().into_iter().find(|(name, _)| name == wanted).expect("a sample");
        let answer = pages().render(site, &page);
        let text = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
        text.split("; ").find(|p| p.starts_with("form-action")).expect("listed").to_owned()
    };
    let portal = Site::sample();
    assert_eq!(policy(&portal, "sign-in.plain"), "form-action 'self' https://payroll.corp.example");
    assert_eq!(policy(&portal, "sign-in.no-app"), "form-action 'self'");
    let away = Site { portal_origin: Some("https://login.corp.example".to_owned()), ..Site::sample() };
    assert_eq!(policy(&away, "denied.rule"), "form-action 'self' https://login.corp.example");
    let evil = Site { portal_origin: Some("https://x; script-src *".to_owned()), ..Site::sample() };
    assert_eq!(policy(&evil, "denied.rule"), "form-action 'self'", "nothing may end the directive");
}

#[test]
fn a_page_on_an_apps_host_leads_to_the_portal() {
    let away = Site { portal_origin: Some("https://login.corp.example".to_owned()), ..Site::sample() };
    let (_, page) = samples().into_iter().find(|(name, _)| name == "denied.rule").expect("a sample");
    let html = pages().html(&away, &page).expect("rendered");
    assert!(html.contains("href=\"https://login.corp.example/.stepgate/logout\""), "{html}");
    assert!(html.contains("href=\"/.stepgate/static/app-"), "static files come from the host itself");
}

/// The token on the page belongs to the session cookie of the host that shows it; the portal would
/// refuse it, and the browser would call the form cross-origin.
#[test]
fn a_sign_out_asked_on_an_apps_host_is_done_there() {
    let away = Site { portal_origin: Some("https://login.corp.example".to_owned()), ..Site::sample() };
    for (name, page) in samples().into_iter().filter(|(name, _)| name.starts_with("sign-out.")) {
        let html = pages().html(&away, &page).expect("rendered");
        let forms: Vec<_> = tags(&html).into_iter().filter(|tag| tag.name == "form" && !tag.closes).collect();
        let actions: Vec<_> = forms.iter().map(|form| form.get("action")).collect();
        assert_eq!(actions, [Some("/.stepgate/logout")], "{name}: {html}");
    }
}

#[test]
fn markup_is_well_formed_and_ids_are_single() {
    const VOID: [&str; 6] = ["meta", "link", "input", "br", "wbr", "!doctype"];
    for (name, answer) in all() {
        let mut open: Vec<&str> = Vec::new();
        let mut ids: Vec<String> = Vec::new();
        let html = text(&answer);
        for tag in tags(html) {
            if let Some(id) = tag.get("id") {
                assert!(!ids.contains(&id.to_owned()), "{name}: id {id} twice");
                ids.push(id.to_owned());
            }
            // Inside a drawing, tags close themselves.
            let drawn = matches!(tag.name, "path" | "rect" | "circle");
            if VOID.contains(&tag.name) || drawn {
                continue;
            }
            if tag.closes {
                assert_eq!(open.pop(), Some(tag.name), "{name}: </{}> closes something else", tag.name);
            } else {
                open.push(tag.name);
            }
        }
        assert!(open.is_empty(), "{name}: {open:?} stay open");
        assert_eq!(html.matches("<h1>").count(), 1, "{name}: one h1");
        assert!(html.contains("<html lang=\"en\">") && html.contains("<main "), "{name}");
    }
}

#[test]
fn the_end_of_a_short_pause_is_told_to_the_second_and_never_too_early() {
    use std::time::Duration;
    use stepgate::pages::{Message, MessageKind};
    let now = Site::sample().now;
    let shown = |millis: u64| {
        let kind = MessageKind::TooManyRequests { again: now.plus(Duration::from_millis(millis)) };
        let page = Page::Message(Message { kind, app: None, reference: None });
        let html = text(&pages().render(&Site::sample(), &page)).to_owned();
        let (_, rest) = html.split_once("<time ").expect("a time");
        rest.split_once('>').expect("its tag").1.split_once('<').expect("its end").0.to_owned()
    };
    let clock =
        |millis: u64, format: &str| now.plus(Duration::from_millis(millis)).to_jiff().strftime(format).to_string();
    assert_eq!(shown(1200), clock(2000, "%H:%M:%S UTC"));
    assert_eq!(shown(119_000), clock(119_000, "%H:%M:%S UTC"));
    assert_eq!(shown(301_000), clock(360_000, "%H:%M UTC"));
}

#[test]
fn every_field_has_its_label_and_every_error_its_field() {
    for (name, answer) in all() {
        let tags = tags(text(&answer));
        let has_id = |id: &str| tags.iter().any(|t| t.get("id") == Some(id));
        for tag in &tags {
            let seen = tag.get("type") != Some("hidden") && tag.get("aria-hidden") != Some("true");
            if tag.name == "input" && seen {
                let id = tag.get("id").unwrap_or_else(|| panic!("{name}: {tag:?} has no id"));
                let labels = tags.iter().filter(|t| t.name == "label" && t.get("for") == Some(id)).count();
                assert_eq!(labels, 1, "{name}: the label of {id}");
            }
            for id in tag.get("aria-describedby").unwrap_or_default().split_whitespace() {
                assert!(has_id(id), "{name}: {id} is nowhere");
            }
            if tag.get("aria-invalid").is_some() {
                let described = tag.get("aria-describedby").unwrap_or_default();
                assert!(described.contains("-err"), "{name}: {tag:?} does not say what is wrong");
            }
            if let Some(target) = tag.get("href").and_then(|h| h.strip_prefix('#')) {
                assert!(has_id(target), "{name}: #{target} leads nowhere");
            }
        }
    }
}

#[test]
fn errors_stand_first_in_the_title_and_in_the_status() {
    for (name, answer) in all() {
        let html = text(&answer);
        let title = html.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).expect("a title");
        let failed = html.contains("id=\"problem\"");
        assert_eq!(title.starts_with("Error: "), failed, "{name}: {title}");
        assert!(title.ends_with("Example Corp"), "{name}: {title}");
        if failed {
            assert!(matches!(answer.status().as_u16(), 422 | 429), "{name}: {}", answer.status());
            assert_eq!(answer.status() == 429, answer.headers().contains_key("retry-after"), "{name}");
        }
    }
}

#[test]
fn forms_post_to_routes_of_ours_with_their_token() {
    for (name, answer) in all() {
        let html = text(&answer);
        for form in html.split("<form ").skip(1).filter_map(|f| f.split("</form>").next()) {
            let head = read_tag(form.split_once('>').map_or(form, |(head, _)| head).trim_start());
            let whole = format!("form {}", form.split_once('>').map_or("", |(head, _)| head));
            let tag = read_tag(&whole);
            assert_eq!(tag.get("method"), Some("post"), "{name}: {head:?}");
            let action = tag.get("action").expect("an action");
            if name.starts_with("send-form") {
                assert!(form.contains("name=\"stepgate-form\" value=\"sample-ticket\""), "{name}: no ticket");
                continue;
            }
            let route = PortalRoute::parse(action).unwrap_or_else(|| panic!("{name}: {action} is no route"));
            assert_eq!(route.path(), action, "{name}");
            assert!(form.contains("name=\"csrf\" value=\"sample-token\""), "{name}: no form token");
        }
    }
}

#[test]
fn password_managers_find_their_fields() {
    let field = |page: &str, input: &str, autocomplete: &str| {
        let answer = all().into_iter().find(|(name, _)| name == page).expect("a sample").1;
        let found = tags(text(&answer))
            .iter()
            .any(|t| t.name == "input" && t.get("name") == Some(input) && t.get("autocomplete") == Some(autocomplete));
        assert!(found, "{page}: {input} {autocomplete}");
    };
    field("sign-in.plain", "username", "username webauthn");
    field("sign-in.no-app", "username", "username");
    field("sign-in.plain", "password", "current-password");
    field("code.plain", "code", "one-time-code");
    field("enroll-totp.plain", "code", "one-time-code");
    field("set-password.plain", "password", "new-password");
    field("set-password.plain", "username", "username");
    field("new-password.plain", "old", "current-password");
    field("new-password.plain", "new", "new-password");
    field("step-up.password", "password", "current-password");
}

/// Each sentence becomes its own key, so that a page says which of them it used. It proves both
/// that no sentence is dead, and that the samples show each state which has words.
#[test]
fn every_sentence_of_the_words_file_is_shown_by_a_sample() {
    fn marked(at: &str, value: &serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(map) => map
                .iter()
                .map(|(key, inner)| {
                    let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    (key.clone(), marked(&place, inner))
                })
                .collect(),
            serde_json::Value::String(sentence) => {
                let slots = sentence.split('{').skip(1).filter_map(|s| s.split('}').next());
                format!("[{at}]{}", slots.map(|s| format!("{{{s}}}")).collect::<String>()).into()
            }
            other => panic!("{at}: {other}"),
        }
    }
    let json = marked("", &serde_json::from_str(WORDS).expect("json"));
    let marks = json.to_string();
    let pages = Pages::with(|language| Words::parse(&marks, language).expect("words"), &TimeZone::UTC);
    let mut shown = String::new();
    for (name, page) in samples() {
        shown.push_str(&pages.html(&Site::sample(), &page).unwrap_or_else(|e| panic!("{name}: {e:#}")));
    }
    // What an address may hold: one sample stands for all of them.
    for key in Words::of(Language::English).keys().filter_map(|key| key.strip_prefix("path_holds.")) {
        let kind = MessageKind::AmbiguousPath { why: key.to_owned().leak() };
        let page = Page::Message(Message { kind, app: None, reference: None });
        shown.push_str(&pages.html(&Site::sample(), &page).unwrap_or_else(|e| panic!("{key}: {e:#}")));
    }
    for kind in [FactorKind::Totp, FactorKind::Hotp, FactorKind::Webauthn] {
        shown.push_str(&pages.name_first(&Site::sample(), kind).expect("a name"));
    }
    shown.push_str(&pages.codes_file(&Site::sample(), "login.corp.example", "ann", &[]).expect("a file"));
    for (name, letter) in Letter::samples() {
        let (subject, text) = pages.letter(&Site::sample(), &letter).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        shown.push_str(&subject);
        shown.push_str(&text);
    }
    for what_for in [CodeFor::SignIn, CodeFor::Confirm, CodeFor::Number] {
        shown.push_str(&pages.text_of_code(&Site::sample(), "123456", what_for, Site::sample().now).expect("words"));
    }
    for help in [None, Site::sample().help] {
        shown.push_str(&pages.text_of_leaving(&Site { help, ..Site::sample() }).expect("words"));
    }
    let sentences = |key: &str| -> Vec<String> {
        let counted = Words::of(Language::English).keys().any(|k| k == key)
            && json.pointer(&pointer(key)).is_some_and(|v| v.is_object());
        if counted { vec![format!("{key}.one"), format!("{key}.other")] } else { vec![key.to_owned()] }
    };
    let words = Words::of(Language::English);
    let unused: Vec<String> =
        words.keys().flat_map(sentences).filter(|key| !shown.contains(&format!("[{key}]"))).collect();
    assert!(unused.is_empty(), "no sample shows {unused:?}");
}

/// A sentence that one language lacks, or whose value it drops, would be a page that breaks off.
#[test]
fn french_says_everything_that_english_says() {
    fn sentences(at: &str, value: &serde_json::Value, into: &mut BTreeMap<String, Vec<String>>) {
        match value {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, v)| sentences(&format!("{at}/{key}"), v, into))
            }
            serde_json::Value::String(text) => {
                let mut places: Vec<_> = text.split('{').skip(1).filter_map(|s| s.split('}').next()).collect();
                places.sort_unstable();
                into.insert(at.to_owned(), places.into_iter().map(str::to_owned).collect());
            }
            other => panic!("{at}: {other}"),
        }
    }
    let all = |json: &str| {
        let mut found = BTreeMap::new();
        sentences("", &serde_json::from_str(json).expect("json"), &mut found);
        found
    };
    let (english, french) = (all(WORDS), all(include_str!("../../assets/text/fr.json")));
    for (key, places) in &english {
        assert_eq!(french.get(key), Some(places), "{key}");
    }
    assert_eq!(english.len(), french.len(), "a sentence that English does not have");
}

#[test]
fn every_page_is_french_for_who_wishes_it() {
    let site = Site { language: Language::French, ..Site::sample() };
    for (name, page) in samples() {
        let answer = pages().render(&site, &page);
        assert_eq!(answer.headers().get("content-language").expect("its language"), "fr", "{name}");
        assert!(text(&answer).contains("<html lang=\"fr\">"), "{name}");
        assert!(text(&answer).contains("Protégé par Stepgate"), "{name}");
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('.', "/"))
}

#[test]
fn words_keep_to_the_tone() {
    let lower = WORDS.to_lowercase();
    for never in ["oops", "please", "successfully", "invalid", "!", " mfa", "2fa", "otp ", "token", "credential"] {
        assert!(!lower.contains(never), "{never:?} stands in the words");
    }
}

#[test]
fn what_people_typed_cannot_become_markup() {
    let pages = pages();
    let hostile = "\"><script>alert(1)</script>'";
    for (name, page) in samples() {
        let Page::SignIn(mut data) = page else { continue };
        data.username = hostile.to_owned();
        data.hidden.rd = Some(hostile.to_owned());
        let html = pages.html(&Site { title: hostile.to_owned(), ..Site::sample() }, &Page::SignIn(data)).expect(&name);
        assert!(!html.contains("<script>"), "{name}");
        // Nor may a quote end the attribute: it holds the whole of what was typed, escaped.
        let escaped = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;";
        let tags = tags(&html);
        for field in ["username", "rd"] {
            let input = tags.iter().find(|t| t.name == "input" && t.get("name") == Some(field)).expect("the field");
            assert_eq!(input.get("value"), Some(escaped), "{name}: {field}");
        }
    }
}

#[test]
fn static_files_are_ours_alone_small_and_kept_by_their_content() {
    let plain = assets::respond("app.css", &HeaderMap::new()).expect("the stylesheet");
    assert_eq!(plain.headers()["content-type"], "text/css; charset=utf-8");
    assert_eq!(plain.headers()["cache-control"], "no-cache");
    let etag = plain.headers()["etag"].clone();
    assert!(!etag.to_str().expect("text").starts_with("W/"), "strong");

    let (_, sign_in) = all().swap_remove(0);
    let linked: Vec<String> = tags(text(&sign_in))
        .iter()
        .filter_map(|t| t.get("src").or(if t.name == "link" { t.get("href") } else { None }).map(str::to_owned))
        .collect();
    assert!(linked.len() > 2, "{linked:?}");
    for path in linked {
        let Some(PortalRoute::Static(name)) = PortalRoute::parse(&path) else { panic!("{path}") };
        let answer = assets::respond(&name, &HeaderMap::new()).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
        // Browsers of last year cannot read the options of a key by themselves.
        let most = if name.starts_with("webauthn-") { 3584 } else { 2048 };
        assert!(!name.ends_with(".js") || answer.body().len() < most, "{name} has {} bytes", answer.body().len());
    }

    let mut asks = HeaderMap::new();
    asks.insert("if-none-match", etag);
    let again = assets::respond("app.css", &asks).expect("the stylesheet");
    assert_eq!((again.status().as_u16(), again.body().len()), (304, 0));

    let before = assets::respond("app-0123456789abcdef.css", &HeaderMap::new()).expect("of another version");
    assert_eq!(before.headers()["cache-control"], "no-cache", "a foreign hash is never kept");
    for none in ["", "app", "app.js", "../Cargo.toml", "app.css/", "%61pp.css", "app-.css", "base.html"] {
        assert!(assets::respond(none, &HeaderMap::new()).is_none(), "{none}");
    }
}
