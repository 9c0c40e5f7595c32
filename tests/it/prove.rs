//! `prove` finds nothing where a policy is sound, and the spelling where it is not: by the policy alone, and by
//! what an app answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use stepgate::base::clock::{Clock, SystemClock};
use stepgate::config::prove::{Fate, Prover};
use stepgate::config::{Purpose, from_text};

fn file(app: &str) -> String {
    format!(
        "version: 1\nlisten: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\nnetworks: {{ office: [198.51.100.0/24] }}\nportal: {{ host: login.test }}\ntrusted_proxies: [10.0.0.4]\nstate: state\napps:\n- app: wiki\n  hosts: [app.test]\n{app}"
    )
}

const UPSTREAM: &str = "  upstream: { urls: [\"http://127.0.0.1:9\"] }\n";
const OPEN: &str = "  allow: [anyone]\n  require: none\n";

/// What goes round a rule of this policy, how many spellings were judged, and the rules not tried.
fn proved(app: &str) -> (Vec<String>, usize, Vec<String>) {
    let text = file(&format!("{UPSTREAM}{app}"));
    let (snapshot, _) = from_text(&text, Path::new("."), Purpose::Check).unwrap_or_else(|f| panic!("{f:#?}\n{text}"));
    let prover = Prover::new(&snapshot, snapshot.routes.app("wiki").unwrap(), &[], SystemClock.now());
    let (mut holes, mut judged) = (Vec::new(), 0);
    for base in &prover.bases {
        for spelling in prover.spellings(base).into_iter().filter(|spelling| spelling.same) {
            judged += 1;
            if let Fate::Passed { rule, observer } = prover.fate(base, &spelling) {
                let who = &prover.observers[observer].name;
                holes.push(format!(
                    "{} {} for {} {}: {who} by {rule}",
                    spelling.method, spelling.target, base.sample.method, base.target
                ));
            }
        }
    }
    (holes, judged, prover.untried.iter().map(|rule| rule.name.to_string()).collect())
}

const FORMS: [&str; 9] = [
    "",
    "  paths: { like: unix }\n",
    "  paths: { like: iis }\n",
    "  paths: { like: tomcat }\n",
    "  paths: { like: php }\n",
    "  paths: { allow: [encoded_slash] }\n",
    "  paths: { allow: [path_params] }\n",
    "  paths: { allow: [double_slash] }\n",
    "  paths: { allow: [encoded_slash, path_params, double_slash] }\n",
];

#[test]
fn s_path_3_no_spelling_goes_round_the_rules_of_a_sound_policy() {
    let policies = [
        // Everybody may come, but not there.
        format!("{OPEN}  rules: [{{ name: closed, match: {{ path: [/admin/x, /admin/run/*.php, /deep/**] }}, deny: \"No.\" }}]\n"),
        format!("{OPEN}  rules: [{{ name: staff, match: {{ path: /hidden/** }}, allow: [group:staff], require: fresh }}]\n"),
        format!("{OPEN}  rules: [{{ name: gone, match: {{ path: /old/** }}, respond: 410 }}]\n"),
        // Nobody may come, but there.
        "  allow: [group:staff]\n  rules: [{ name: open, match: { path: /static/** }, allow: [anyone], require: none }]\n".into(),
        // By method, by query, by network, by hour, by person.
        format!("{OPEN}  rules: [{{ name: change, match: {{ path: /runs/*/approve, methods: [POST, DELETE] }}, require: fresh }}, {{ name: get, match: {{ path: /runs/*/get, methods: [GET] }}, require: mfa }}]\n"),
        format!("{OPEN}  rules: [{{ name: delete, match: {{ path: /index.do, query: {{ action: [delete, purge] }} }}, require: fresh }}]\n"),
        format!("{OPEN}  rules: [{{ name: office, match: {{ path: /export/**, from: [office] }}, deny: \"No.\" }}, {{ name: night, match: {{ path: /batch/x, hours: \"Sat-Sun 01:00-02:00 UTC\" }}, require: mfa }}]\n"),
        format!("{OPEN}  rules: [{{ name: lee, match: {{ path: /lee/x, who: [user:lee] }}, deny: \"No.\" }}]\n"),
        format!("{OPEN}  rules: [{{ name: numbers, match: {{ path: {{ regex: \"/runs/[0-9]+/(approve|reject)\" }} }}, require: fresh }}]\n"),
    ];
    let mut all = 0;
    for forms in FORMS {
        for policy in &policies {
            let (holes, judged, untried) = proved(&format!("{forms}{policy}"));
            assert!(holes.is_empty(), "{forms}{policy}{}", holes.join("\n"));
            assert!(untried.is_empty(), "{forms}{policy}{untried:?}");
            assert!(judged > 80, "{judged}: {forms}{policy}");
            all += judged;
        }
    }
    assert!(all > 30_000, "{all}");
}

#[test]
fn what_letter_case_alone_keeps_apart_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let rules = "  rules:\n  - { name: open, match: { path: /Public/** }, allow: [anyone], require: none }\n  - { name: closed, match: { path: /public/** }, deny: \"No.\" }\n";
    let run = |forms: &str, words: &[&str]| {
        let path = dir.path().join("stepgate.yaml");
        std::fs::write(&path, file(&format!("{UPSTREAM}{forms}{rules}"))).unwrap();
        let out =
            Command::new(env!("CARGO_BIN_EXE_stepgate")).arg("prove").args(words).arg("--config").arg(&path).output();
        let out = out.unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = run("", &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("HOLE  wiki: GET /Public/x  (letter case)\n      rule closed ("), "{text}");
    assert!(
        text.contains("stops a stranger at GET /public/x;\n      written so, rule open lets them through\n"),
        "{text}"
    );
    let (code, text) = run("", &["--json"]);
    let told: Json = serde_json::from_str(&text).unwrap();
    assert!(code == 1 && told["ok"] == false, "{text}");
    assert!(told["holes"].as_array().unwrap().iter().any(|hole| hole["spelled"] == "GET /Public/x"), "{text}");
    // An app for which they are two paths.
    let (code, text) = run("  paths: { like: unix }\n", &[]);
    assert!(code == 0 && text.ends_with("No spelling goes round a rule.\n"), "{text}");
    assert_eq!(run("", &["--app", "wikki"]).0, 2);
}

/// An app that takes letter case, or a slash at the end, for no difference.
fn app(folds: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let mut words = text.split(' ');
            assert_eq!(words.next(), Some("GET"), "nothing else is sent: {text}");
            let path = words.next().unwrap().to_owned();
            let read = if folds { path.to_ascii_lowercase().trim_end_matches('/').to_owned() } else { path.clone() };
            let (status, body) = match read.as_str() {
                "/admin/x" => ("200 OK", format!("protected, at {path}")),
                _ => ("404 Not Found", format!("there is no {path}")),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn an_app_that_reads_paths_otherwise_than_its_file_says_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let run = |url: &str, forms: &str, words: &[&str]| {
        let path = dir.path().join("stepgate.yaml");
        let rules = format!("{OPEN}  rules: [{{ name: closed, match: {{ path: /admin/x }}, deny: \"No.\" }}]\n");
        std::fs::write(&path, file(&format!("  upstream: {{ urls: [\"{url}\"] }}\n{forms}{rules}"))).unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_stepgate"))
            .args(["prove", "--rate", "1000", "--against"])
            .args(words)
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap();
        (out.status.code().unwrap(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let unix = "  paths: { like: unix }\n";
    let (folding, plain) = (app(true), app(false));
    let (code, text) = run(&folding, unix, &["wiki"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("HOLE  wiki: GET /ADMIN/x  (letter case)"), "{text}");
    assert!(text.contains("HOLE  wiki: GET /admin/x/  (blanks and a trailing slash)"), "{text}");
    assert!(text.contains("and the app answers as for that page (200, "), "{text}");
    // Without `like:` the gate reckons with that.
    let (code, text) = run(&folding, "", &["wiki"]);
    assert!(code == 0 && text.contains("None of these is answered as the protected page is (1 pages)."), "{text}");
    // And of an app that tells them apart, what is said is true.
    let (code, text) = run("http://127.0.0.1:9", unix, &[&plain]);
    assert_eq!(code, 0, "{text}");
    let (code, text) = run("http://127.0.0.1:9", unix, &["wiki"]);
    assert!(code == 3 && text.contains("does not answer"), "{text}");
}
