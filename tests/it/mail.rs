//! Does our mail get to the relay, never in clear unless somebody said so, and what is told where it does not?

use std::process::{Command, Output};

use data_encoding::BASE64;
use tempfile::TempDir;

use crate::harness::smtp::{Manners, SmtpCatcher, server_tls};
use crate::harness::tls;

/// A directory with a configuration whose `smtp:` is `keys`.
fn desk(keys: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, keys);
    dir
}

fn write(dir: &TempDir, keys: &str) {
    let text = format!(
        "version: 1\nlisten: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\nstate: state\n\
         portal: {{ host: \"login.localhost:8080\", title: Example Corp }}\nsmtp: {{ {keys}, from: \"Example Corp <gate@corp.example>\" }}\n"
    );
    std::fs::write(dir.path().join("stepgate.yaml"), text).unwrap();
}

fn stepgate(dir: &TempDir, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stepgate"))
        .args(words)
        .current_dir(dir.path())
        .env("STEPGATE_CONFIG", "stepgate.yaml")
        .output()
        .unwrap()
}

fn told(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn a_test_mail_goes_over_starttls_with_a_login_and_the_answer_of_the_relay_is_told() {
    let dir = desk("host: nowhere.test");
    tls::certificate(dir.path(), "relay", &["localhost"]);
    let relay = SmtpCatcher::start(Manners {
        tls: Some(server_tls(dir.path(), "relay")),
        login: Some(BASE64.encode(b"\0apikey\0SG.secret")),
        ..Manners::default()
    });
    std::fs::write(dir.path().join("key"), "SG.secret\n").unwrap();
    let keys = |more: &str| {
        format!("host: localhost, port: {}, username: apikey, password: {{ file: key }}{more}", relay.addr.port())
    };
    write(&dir, &keys(", ca: relay.crt, reply_to: help@corp.example"));

    let out = stepgate(&dir, &["mail", "test", "ann@example.org"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    assert!(told(&out).contains("over TLS") && told(&out).contains("queued as 4711"), "{}", told(&out));
    assert!(!told(&out).contains("SG.secret"));
    let mail = relay.next();
    assert!(mail.encrypted && mail.to == "ann@example.org");
    assert_eq!(mail.header("From"), "\"Example Corp\" <gate@corp.example>");
    assert_eq!(mail.header("Reply-To"), "help@corp.example");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert!(mail.header("Message-ID").ends_with("@corp.example>"));
    assert!(mail.text().contains("This is a test of the mail of Example Corp"));

    // The doctor goes the same way, and sends nothing.
    let out = stepgate(&dir, &["doctor"]);
    assert!(told(&out).contains("it answers over TLS and takes the login"), "{}", told(&out));
    assert!(relay.so_far().is_empty());

    // A stranger's certificate is nobody to hand a password to.
    write(&dir, &keys(""));
    let out = stepgate(&dir, &["mail", "test", "ann@example.org"]);
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
    assert!(told(&out).contains("TLS with it failed"), "{}", told(&out));
    write(&dir, &keys(", ca: relay.crt"));
    std::fs::write(dir.path().join("key"), "SG.other\n").unwrap();
    let out = stepgate(&dir, &["doctor"]);
    assert!(told(&out).contains("it refused the login") && told(&out).contains("535"), "{}", told(&out));
    assert!(relay.so_far().is_empty());
}

#[test]
fn a_relay_with_tls_from_the_first_byte_is_spoken_to_so() {
    let dir = desk("host: nowhere.test");
    tls::certificate(dir.path(), "relay", &["localhost"]);
    let tls = Some(server_tls(dir.path(), "relay"));
    let relay = SmtpCatcher::start(Manners { tls, implicit: true, ..Manners::default() });
    write(&dir, &format!("host: localhost, port: {}, tls: implicit, ca: relay.crt", relay.addr.port()));
    let out = stepgate(&dir, &["mail", "test", "ann@example.org", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((answer["encrypted"].as_bool(), out.status.code()), (Some(true), Some(0)));
    assert!(relay.next().encrypted);
}

#[test]
fn no_mail_and_no_password_goes_in_clear_where_tls_was_asked_for() {
    let relay = SmtpCatcher::plain();
    let dir = desk(&format!("host: 127.0.0.1, port: {}", relay.addr.port()));
    let out = stepgate(&dir, &["mail", "test", "ann@example.org"]);
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
    assert!(told(&out).contains("does not offer STARTTLS"), "{}", told(&out));
    assert!(relay.so_far().is_empty());
    for command in [&["mail", "test", "ann@example.org"][..], &["doctor"]] {
        let said = told(&stepgate(&dir, command));
        assert!(said.contains("`tls: none` for a relay on this machine"), "{command:?} names the switch: {said}");
    }

    write(&dir, "host: relay.corp.example, tls: none");
    let out = stepgate(&dir, &["check"]);
    assert!(told(&out).contains("`tls: none` is for a relay on this machine"), "{}", told(&out));
    write(&dir, "host: relay.corp.example, tls: none, dangerously_in_clear: true");
    assert_eq!(stepgate(&dir, &["check"]).status.code(), Some(0));
    write(
        &dir,
        "host: relay.corp.example, tls: none, dangerously_in_clear: true, username: a, password: { env: HOME }",
    );
    let out = stepgate(&dir, &["check"]);
    assert!(told(&out).contains("would send the relay's password in clear"), "{}", told(&out));
}

#[test]
fn what_the_relay_refuses_and_a_relay_that_is_not_there_are_told_apart() {
    let relay = SmtpCatcher::start(Manners {
        refuse: Some(("nobody".to_owned(), "550 5.1.1 no such mailbox")),
        ..Manners::default()
    });
    let dir = desk(&format!("host: 127.0.0.1, port: {}, tls: none", relay.addr.port()));
    let out = stepgate(&dir, &["mail", "test", "nobody@example.org"]);
    assert_eq!(out.status.code(), Some(1), "{}", told(&out));
    assert!(told(&out).contains("refused the recipient") && told(&out).contains("no such mailbox"), "{}", told(&out));

    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    write(&dir, &format!("host: 127.0.0.1, port: {}, tls: none", gone.port()));
    let out = stepgate(&dir, &["mail", "test", "ann@example.org"]);
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
    assert!(told(&out).contains("cannot be reached"), "{}", told(&out));
    let out = stepgate(&dir, &["doctor"]);
    assert!(
        told(&out).contains("mail relay 127.0.0.1") && told(&out).contains("look at `smtp.host`"),
        "{}",
        told(&out)
    );
}
