//! Fields of one hop: which go, which stay whatever `Connection` says, and which are the gate's own?

use super::gate::in_front_of;
use super::recorder::{Recorder, Says};
use crate::harness::exchange;

const CORPUS: &str = include_str!("../../corpus/smuggling/hop-by-hop.txt");

/// The fields of a section.
fn section(name: &str) -> Vec<(&'static str, &'static str)> {
    let (_, rest) = CORPUS.split_once(&format!("[{name}]\n")).unwrap_or_else(|| panic!("no section {name}"));
    let fields: Vec<_> = rest.lines().take_while(|l| !l.starts_with('[')).filter_map(|l| l.split_once(": ")).collect();
    let fields: Vec<_> = fields.into_iter().filter(|(name, _)| !name.starts_with('#')).collect();
    assert!(!fields.is_empty());
    fields
}

/// All of them, and a `Connection` that names each: what the gate must decide field by field.
fn head(sections: &[&str]) -> String {
    let fields: Vec<_> = sections.iter().flat_map(|s| section(s)).collect();
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("Connection: close, {}\r\n{lines}", names.join(", "))
}

#[test]
fn s_id_3_no_field_of_one_hop_reaches_the_app_and_none_that_matters_can_be_named_away() {
    let app = Recorder::start();
    let world = in_front_of(&app);
    let fields = head(&["gone", "named", "kept", "kept in requests"]);
    let own = "Connection: Host, Content-Length, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto\r\n";
    let request = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{own}{fields}\r\nhi");
    assert_eq!(exchange(world.addr, request.as_bytes()).map(|r| r.status), Some(200));
    // Also those that nothing names.
    let bare: String = section("gone").iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("GET /y HTTP/1.1\r\nHost: a\r\n{bare}Connection: close\r\n\r\n");
    assert_eq!(exchange(world.addr, request.as_bytes()).map(|r| r.status), Some(200));
    assert!(app.faults().is_empty(), "{:?}", app.faults());

    let seen = app.seen();
    for seen in &seen {
        for (name, _) in section("gone") {
            assert!(seen.values(name).is_empty(), "{name}: {seen:?}");
        }
        for (name, expected) in [
            ("host", "a"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-host", "a"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "80"),
        ] {
            assert_eq!(seen.values(name), [expected], "{name}");
        }
        let via = seen.values("via");
        assert!(via.len() == 1 && via[0].starts_with("1.1 ") && !via[0].contains("elsewhere"), "{via:?}");
    }
    for (name, _) in section("named").iter().filter(|(name, _)| *name != "Via") {
        assert!(seen[0].values(name).is_empty(), "{name}");
    }
    for (name, value) in section("kept").into_iter().chain(section("kept in requests")) {
        assert_eq!(seen[0].values(name), [value], "{name}");
    }
    assert_eq!(seen[0].body.as_deref(), Some(&b"hi"[..]));
}

#[test]
fn s_up_4_no_field_of_one_hop_reaches_the_client_and_none_that_matters_can_be_named_away() {
    let app = Recorder::start();
    let world = in_front_of(&app);
    for named in [true, false] {
        let fields = match named {
            true => head(&["gone", "named", "kept", "kept in answers"]),
            false => section("gone").iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect(),
        };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok");
        app.says(move |_| Says::Last(answer.clone().into_bytes()));
        let reply = exchange(world.addr, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
        for (name, _) in section("gone").into_iter().chain(if named { section("named") } else { Vec::new() }) {
            assert!(reply.headers(&name.to_ascii_lowercase()).is_empty(), "{name}: {reply:?}");
        }
        assert_eq!(reply.headers("connection"), ["close"], "the gate's own");
        if named {
            for (name, value) in section("kept").into_iter().chain(section("kept in answers")) {
                assert_eq!(reply.headers(&name.to_ascii_lowercase()), [value], "{name}");
            }
        }
    }
}
