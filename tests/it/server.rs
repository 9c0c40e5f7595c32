//! Listeners, hosts and reloads, seen from the socket.

use std::io::{Read, Write};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;

use crate::harness::tls::{certificate, trusting};
use crate::harness::{World, exchange, read_reply, send};

const OPEN: &str = "rules: [{ match: { path: /** }, allow: [anyone], require: none }]";

#[test]
fn s_host_1_a_host_that_no_app_has_gets_421_and_reaches_nobody() {
    let world = World::new().app(OPEN).start();
    for host in ["other.test", "app.test.evil", "127.0.0.1"] {
        for path in ["/", "/.stepgate/login", "/.stepgate/jwks.json"] {
            let reply = world.program().get(&format!("http://{host}{path}"));
            assert_eq!(reply.status, 421, "{host}{path}");
            assert!(reply.header("location").is_none());
        }
    }
    for (hosts, status) in [
        ("Host: app.test\r\nHost: app.test\r\n", 400),
        ("Host: app.test, other.test\r\n", 400),
        ("Host: u@app.test\r\n", 400),
        ("Host: app.test.\r\n", 400),
        ("Host:\r\n", 400),
        ("", 400),
        ("Host: APP.TEST\r\n", 200),
        ("Host: app.test:80\r\n", 200),
    ] {
        let reply = exchange(world.addr, format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n").as_bytes());
        assert_eq!(reply.map(|r| r.status), Some(status), "{hosts:?}");
    }
    let absolute =
        exchange(world.addr, b"GET http://other.test/ HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    assert_eq!(absolute.map(|r| r.status), Some(400), "the request line names another host");
    assert_eq!(world.backend.received().len(), 2);
}

#[test]
fn s_host_3_addresses_that_we_emit_come_from_the_file() {
    let world = World::new().start();
    let evil =
        [("x-forwarded-host", "evil.test"), ("forwarded", "host=evil.test;proto=https"), ("x-forwarded-proto", "ftp")];
    let page = world.browser().request("GET", "http://app.test/x", &evil, None);
    assert!(page.location().starts_with("http://login.test/.stepgate/login?"), "{}", page.location());
    let problem = world.program().request("GET", "http://app.test/x", &evil, None);
    assert!(problem.json()["login_url"].as_str().unwrap().starts_with("http://login.test/"));
    assert!(!problem.text().contains("evil"));
}

#[test]
fn s_host_4_the_redirect_listener_points_at_configured_hosts_and_takes_nothing() {
    let world = World::new().listen("{ addr: \"127.0.0.1:0\", role: redirect }").start();
    let ask = |line: &str, host: &str| {
        exchange(world.redirect(), format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
            .unwrap()
    };
    let reply = ask("GET /a?b=c", "app.test");
    assert_eq!((reply.status, reply.location()), (308, "https://app.test/a?b=c"));
    assert_eq!(ask("GET /", "login.test").location(), "https://login.test/");
    for (line, host) in
        [("POST /a", "app.test"), ("GET /", "other.test"), ("GET /", "app.test, x"), ("DELETE /", "app.test")]
    {
        let reply = ask(line, host);
        assert_eq!((reply.status, reply.header("location")), (403, None), "{line} {host}");
    }
}

/// It asks the server and none of its paths: no rule could judge it.
#[test]
fn s_path_6_options_for_the_server_as_a_whole_is_answered_by_the_gate() {
    let world = World::new().start();
    let ask = |line: &str, fields: &str| {
        exchange(world.addr, format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").as_bytes()).unwrap()
    };
    for host in ["app.test", "login.test"] {
        let reply = ask("OPTIONS *", &format!("Host: {host}\r\n"));
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        assert_eq!(reply.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    for (line, fields, status) in [
        ("OPTIONS *", "Host: other.test\r\n", 421),
        ("OPTIONS *", "Host: app.test\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ("GET *", "Host: app.test\r\n", 400),
        ("POST *", "Host: app.test\r\nContent-Length: 0\r\n", 400),
        ("OPTIONS /x", "Host: app.test\r\n", 401),
    ] {
        assert_eq!(ask(line, fields).status, status, "{line} {fields}");
    }
    assert!(world.backend.received().is_empty());
}

/// The address of an absolute form may have no path (RFC 3986 section 3.3); what goes to the app always has one.
#[test]
fn s_path_1_a_query_without_a_path_is_no_target() {
    let world = World::new().app(OPEN).start();
    let ask = |target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        exchange(world.addr, head.as_bytes()).unwrap().status
    };
    for target in ["http://app.test?x", "https://app.test?", "http://app.test:80?/x", "HTTP://app.test?/../x"] {
        assert_eq!(ask(target), 400, "{target}");
    }
    assert!(world.backend.received().is_empty());
    assert_eq!(ask("http://app.test"), 200);
    assert_eq!(world.backend.received_one().line, "GET / HTTP/1.1");
    assert_eq!(ask("http://app.test/?x"), 200);
}

/// Werkzeug, Django and Symfony make capitals of a method before they look at it.
#[test]
fn s_path_6_small_letters_of_a_method_pass_no_rule_that_names_it() {
    let rules = "rules:\n\
        - { match: { methods: [DELETE, PATCH, MOVE] }, deny: \"Nothing is changed here.\" }\n\
        - { match: { path: /** }, allow: [anyone], require: none }\n";
    let world = World::new().app(rules).start();
    let ask = |line: &str, body: &str| {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{line} HTTP/1.1\r\nHost: app.test\r\n{length}Connection: close\r\n\r\n{body}");
        exchange(world.addr, head.as_bytes()).unwrap()
    };
    for method in ["DELETE", "PATCH", "patch", "Patch", "MOVE", "move"] {
        assert_eq!(ask(&format!("{method} /thing"), "").status, 403, "{method}");
    }
    for method in ["delete", "Delete", "deletE", "get", "Head", "post", "pUT", "options"] {
        for path in ["/thing", "/.stepgate/login", "*"] {
            let reply = ask(&format!("{method} {path}"), "");
            assert_eq!(reply.status, 400, "{method} {path}");
            assert!(reply.text().contains("must be written in capitals"), "{}", reply.text());
        }
    }
    for method in ["get", "head", "Get"] {
        assert_eq!(ask(&format!("{method} /thing"), "hello").status, 400, "s_frame_6: {method}");
    }
    for method in ["trace", "Trace", "connect", "TRACE"] {
        assert_eq!(ask(&format!("{method} /thing"), "").status, 405, "s_frame_11: {method}");
    }
    assert!(world.backend.received().is_empty(), "no app heard of any of them");
    assert_eq!(ask("propfind /thing", "").status, 200);
    assert_eq!(world.backend.received_one().line, "propfind /thing HTTP/1.1", "as it was sent");
}

/// PHP makes `do_it` of `do[it`, and many an app trims what it is given.
#[test]
fn s_path_8_no_spelling_of_a_parameter_passes_the_rule_that_names_it() {
    let rules = "rules:\n\
        - { match: { query: { do_it: ['1'] } }, deny: \"Not that.\" }\n\
        - { match: { query: { action: [delete] } }, deny: \"Nothing is deleted.\" }\n\
        - { match: { path: /** }, allow: [anyone], require: none }\n";
    let world = World::new().app(rules).start();
    let ask = |query: &str| {
        let head = format!("GET /q.php?{query} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        exchange(world.addr, head.as_bytes()).unwrap().status
    };
    for query in
        ["do_it=1", "do[it=1", "do%5Bit=1", "do%5bit=+1", "action=delete%20", "action=+delete", "action=%0adelete"]
    {
        assert_eq!(ask(query), 403, "{query}");
    }
    // Express 4 reads them as `action`, Rack 2 too.
    for query in [
        "[action]=delete",
        "%5Baction%5d=delete",
        "[action][]=delete",
        "]action=delete",
        "action]=delete",
        "?action=delete",
    ] {
        assert_eq!(ask(query), 403, "{query}");
    }
    // And ASP.NET these.
    for query in ["action=%u0064elete", "%U0061ction=delet%u0065", "act%u0069on=delete&a=%u", "[%u0061ction]=delete"] {
        assert_eq!(ask(query), 403, "{query}");
    }
    assert!(world.backend.received().is_empty());
    assert_eq!(ask("do%5Bit%5D=1&action=deleted&x=%u00&y=%ud800&z=%u0064"), 200);
}

/// PHP, Tomcat and Express read the first 1000 parameters: what a rule opens by a later one, the app never sees.
#[test]
fn s_path_8_a_parameter_that_the_app_may_not_come_to_opens_nothing() {
    let rules = "rules:\n\
        - { match: { query: { mode: [view] } }, allow: [anyone], require: none }\n\
        - { match: { query: { action: [delete] } }, deny: \"Nothing is deleted.\" }\n\
        - { match: { path: /** }, deny: \"Only to look at.\" }\n";
    let world = World::new().app(rules).start();
    let ask = |query: &str| {
        let head = format!("GET /q.php?{query} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        exchange(world.addr, head.as_bytes()).unwrap().status
    };
    for filler in ["a=1&", "&"] {
        assert_eq!(ask(&format!("{}mode=view", filler.repeat(1000))), 403, "{filler}");
    }
    // A list is none of its values (Express, Fastify).
    assert_eq!(ask("mode=view&mode=view"), 403);
    assert!(world.backend.received().is_empty());
    assert_eq!(ask(&format!("{}mode=view", "a=1&".repeat(100))), 200);
}

/// Apache runs `/pay.inc` for `/pay.inc/x` once it is told that `.inc` is PHP.
#[test]
fn s_path_4_an_argument_behind_a_file_does_not_pass_the_rule_for_the_file() {
    let rules = "rules:\n\
        - { match: { path: [/php/pay.html, /lib/db.inc] }, deny: \"Not here.\" }\n\
        - { match: { path: /** }, allow: [anyone], require: none }\n";
    let world = World::new().app(rules).start();
    let ask = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        exchange(world.addr, head.as_bytes()).unwrap().status
    };
    for path in ["/php/pay.html", "/php/pay.html/x", "/php/pay.html/a/b.css?c", "/lib/DB.inc/x"] {
        assert_eq!(ask(path), 403, "{path}");
    }
    assert!(world.backend.received().is_empty());
    assert_eq!(ask("/php/other.html/x"), 200);
}

/// Anyone can invent hosts, paths, methods and programs.
#[test]
fn s_lim_3_no_metric_grows_with_what_clients_say() {
    let world = World::new().app(OPEN).start();
    let lines = || {
        let reply = exchange(world.ops(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        reply.unwrap().text().lines().filter(|l| !l.starts_with('#')).count()
    };
    let ask = |n: usize, host: &str| {
        let head = format!("M{n} /{n}?{n} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {n}\r\nConnection: close\r\n\r\n");
        exchange(world.addr, head.as_bytes())
    };
    for n in 0..20 {
        ask(n, "app.test");
        ask(n, &format!("h{n}.test"));
    }
    let before = lines();
    for n in 20..300 {
        ask(n, "app.test");
        ask(n, &format!("h{n}.test"));
    }
    assert_eq!(lines(), before);
}

const BEHIND_A_BALANCER: &str = "{ addr: \"127.0.0.1:0\", role: proxy, proxy_protocol: true }";

#[test]
fn s_net_1_a_balancers_word_names_the_client_and_the_clients_own_does_not() {
    let world = World::new().app(OPEN).main("trusted_proxies: [127.0.0.1]").listen(BEHIND_A_BALANCER).start();
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";
    let reply =
        exchange(world.other_proxy(), format!("PROXY TCP4 192.0.2.7 10.0.0.1 51000 80\r\n{request}").as_bytes());
    assert_eq!(reply.map(|r| r.status), Some(200));
    assert_eq!(world.backend.received_one().all("x-forwarded-for"), ["192.0.2.7"]);
    // A client whom the balancer cannot name: what comes in fields is the client's own word.
    let reply = exchange(world.other_proxy(), format!("PROXY UNKNOWN\r\n{request}").as_bytes());
    assert_eq!(reply.map(|r| r.status), Some(200));
    assert_eq!(world.backend.received_one().all("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn s_net_3_a_proxy_header_is_demanded_where_it_is_declared_and_read_nowhere_else() {
    let world = World::new().app(OPEN).main("trusted_proxies: [127.0.0.1]").listen(BEHIND_A_BALANCER).start();
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
    assert!(exchange(world.other_proxy(), request.as_bytes()).is_none(), "without one, nothing is answered");
    let spoofed = format!("PROXY TCP4 192.0.2.7 10.0.0.1 51000 80\r\n{request}");
    assert_eq!(exchange(world.addr, spoofed.as_bytes()).map(|r| r.status), Some(400), "plain bytes elsewhere");
    let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    assert!(exchange(world.other_proxy(), huge).is_none());
    assert!(exchange(world.other_proxy(), b"PROXY TCP4 192.0.2.7 ").is_none(), "it has its own deadline");
    assert!(world.backend.received().is_empty());

    let stranger = World::new().app(OPEN).main("trusted_proxies: [10.0.0.4]").listen(BEHIND_A_BALANCER).start();
    assert!(exchange(stranger.other_proxy(), spoofed.as_bytes()).is_none(), "who is no balancer names nobody");
    assert!(stranger.backend.received().is_empty());
}

#[test]
fn nothing_under_the_prefix_reaches_an_app_in_any_spelling() {
    let world = World::new().app(OPEN).start();
    for path in
        ["/.stepgate/x", "/.stepgate", "/.STEPGATE/login", "/%2estepgate/x", "/.stepgat%65/x", "/.step%67ate/login"]
    {
        let reply = world.program().get(&format!("http://app.test{path}"));
        assert!((400..500).contains(&reply.status), "{path}: {}", reply.status);
    }
    assert_eq!(world.backend.received().len(), 0);
}

#[test]
fn a_head_beyond_its_limits_gets_its_status() {
    let world = World::new().app(OPEN).start();
    let mut program = world.program();
    assert_eq!(program.get(&format!("http://app.test/{}", "a".repeat(8 * 1024))).status, 414);
    let long = "v".repeat(16 * 1024);
    assert_eq!(program.request("GET", "http://app.test/", &[("x-long", &long)], None).status, 431);
    let many: String = (0..120).map(|n| format!("x-{n}: 1\r\n")).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: app.test\r\n{many}\r\n");
    assert_eq!(exchange(world.addr, head.as_bytes()).unwrap().status, 431);
    assert_eq!(world.backend.received().len(), 0);
}

#[test]
fn a_bad_file_keeps_the_old_policy_and_says_why() {
    let world = World::new().app(OPEN).start();
    let ready = |world: &World| {
        exchange(world.ops(), b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap().json()
    };
    let good = std::fs::read_to_string(world.app_file()).unwrap();

    std::fs::write(world.app_file(), good.replace("anyone", "anyoen")).unwrap();
    let why = world.gate().reload().unwrap_err();
    assert!(why.contains("wiki.yaml:") && why.contains("anyone"), "{why}");
    assert_eq!(world.program().get("http://app.test/").status, 200, "the old policy holds");
    assert_eq!(ready(&world)["config"]["generation"], 1);
    assert!(ready(&world)["config"]["refused"].as_str().unwrap().contains("anyoen"));

    std::fs::write(world.app_file(), format!("{good}\ntests: [{{ get: /, expect: deny }}]\n")).unwrap();
    assert!(world.gate().reload().is_err(), "a policy that fails its own tests is not taken");

    std::fs::write(world.app_file(), good.replace("allow: [anyone], require: none", "deny: \"Closed.\"")).unwrap();
    world.gate().reload().unwrap();
    assert_eq!(world.program().get("http://app.test/").status, 403);
    assert_eq!(ready(&world)["config"]["generation"], 2);
    assert!(ready(&world)["config"]["refused"].is_null());
}

#[test]
fn metrics_count_what_was_decided() {
    let world = World::new().app(OPEN).start();
    world.program().get("http://app.test/");
    world.program().get("http://app.test/..%2f");
    let text = exchange(world.ops(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap().text();
    for line in [
        "stepgate_decisions_total{app=\"wiki\",verdict=\"allow\"} 1",
        "stepgate_decisions_total{app=\"wiki\",verdict=\"reject\"} 1",
        "stepgate_config_last_reload_success 1",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

/// One request over TLS that trusts only `pem`, by HTTP/2 or HTTP/1.1: status, and what ALPN agreed on.
async fn over_tls(addr: std::net::SocketAddr, pem: &str, host: &str, alpn: &str) -> Result<(u16, String), String> {
    let tcp = tokio::net::TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let tls =
        tokio_rustls::TlsConnector::from(trusting(pem, alpn)).connect(name, tcp).await.map_err(|e| e.to_string())?;
    let agreed = String::from_utf8_lossy(tls.get_ref().1.alpn_protocol().unwrap_or_default()).into_owned();
    let request = |uri: String| {
        hyper::Request::builder().uri(uri).header("host", host).body(Empty::<bytes::Bytes>::new()).unwrap()
    };
    let response = if agreed == "h2" {
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        send.send_request(request(format!("https://{host}/x"))).await
    } else {
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        send.send_request(request("/x".to_owned())).await
    };
    let response = response.map_err(|e| e.to_string())?;
    let status = response.status().as_u16();
    response.into_body().collect().await.map_err(|e| e.to_string())?;
    Ok((status, agreed))
}

/// An open app, and a listener with these certificates.
fn behind_tls(certs: &std::path::Path) -> World {
    let listener = format!("{{ addr: \"127.0.0.1:0\", role: proxy, tls: {{ certificates: {} }} }}", certs.display());
    World::new().app(OPEN).listen(&listener).start()
}

#[test]
fn tls_serves_both_protocols_by_name_and_takes_new_certificates_without_a_restart() {
    let certs = tempfile::tempdir().unwrap();
    let app = certificate(certs.path(), "app", &["app.test"]);
    let login = certificate(certs.path(), "login", &["login.test"]);
    let world = behind_tls(certs.path());
    let addr = world.other_proxy();
    let runtime = tokio::runtime::Runtime::new().unwrap();

    assert_eq!(runtime.block_on(over_tls(addr, &app, "app.test", "h2")), Ok((200, "h2".into())));
    assert_eq!(runtime.block_on(over_tls(addr, &app, "app.test", "http/1.1")), Ok((200, "http/1.1".into())));
    assert!(runtime.block_on(over_tls(addr, &app, "login.test", "h2")).is_err(), "another name, another certificate");
    assert!(runtime.block_on(over_tls(addr, &login, "login.test", "h2")).is_ok());

    let renewed = certificate(certs.path(), "app", &["app.test"]);
    let later = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    std::fs::File::options().write(true).open(certs.path().join("app.crt")).unwrap().set_modified(later).unwrap();
    for certificates in &world.gate().core().certificates {
        certificates.refresh().unwrap();
    }
    assert_eq!(runtime.block_on(over_tls(addr, &renewed, "app.test", "h2")), Ok((200, "h2".into())));
    assert!(runtime.block_on(over_tls(addr, &app, "app.test", "h2")).is_err(), "the old one is gone");

    // A broken file keeps what was there.
    std::fs::write(certs.path().join("app.crt"), "no certificate").unwrap();
    assert!(world.gate().core().certificates[0].refresh().is_err());
    assert_eq!(runtime.block_on(over_tls(addr, &renewed, "app.test", "h2")), Ok((200, "h2".into())));
}

/// All hosts of a listener are served with the same settings: SNI chooses the certificate and nothing else,
/// and what a request is for, its Host says. Whoever gives a host settings of its own (client certificates)
/// meets this test, and must answer 421 where SNI and Host choose different ones (RFC 9110 section 7.4).
#[test]
fn s_host_2_sni_chooses_the_certificate_and_the_host_alone_what_is_answered() {
    let certs = tempfile::tempdir().unwrap();
    let app = certificate(certs.path(), "app", &["app.test"]);
    let login = certificate(certs.path(), "login", &["login.test"]);
    let world = behind_tls(certs.path());
    let ask = |pem: &str, sni: &str, host: &str| {
        let mut socket = std::net::TcpStream::connect(world.other_proxy()).unwrap();
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(trusting(pem, "http/1.1"), name).unwrap();
        let mut tls = rustls::Stream::new(&mut connection, &mut socket);
        let head = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        tls.write_all(head.as_bytes()).ok()?;
        let mut answer = [0; 12];
        tls.read_exact(&mut answer).ok()?;
        String::from_utf8_lossy(&answer[9..]).parse::<u16>().ok()
    };
    assert_eq!(ask(&app, "app.test", "app.test"), Some(200));
    assert_eq!(ask(&app, "login.test", "login.test"), None, "the certificate is that of the name");
    assert_eq!(ask(&login, "login.test", "app.test"), Some(200));
    assert_eq!(ask(&app, "app.test", "login.test"), Some(404), "the portal has no such page, and the app no say");
    assert_eq!(ask(&app, "app.test", "other.test"), Some(421));
    assert_eq!(world.backend.received().len(), 2);

    let file =
        "version: 1\nlisten: [{ addr: \"127.0.0.1:443\", role: proxy, tls: { certificates: /x, client_ca: /y } }]\n";
    let faults = stepgate::config::from_text(file, std::path::Path::new("."), stepgate::config::Purpose::Check);
    assert!(format!("{:?}", faults.unwrap_err()).contains("client_ca"), "no such setting in this version");
}

/// A busy machine reads both at once; then the socket never becomes readable again by itself.
#[test]
fn a_request_in_the_packet_that_ends_the_handshake_is_answered() {
    let certs = tempfile::tempdir().unwrap();
    let app = certificate(certs.path(), "app", &["app.test"]);
    let world = behind_tls(certs.path());
    let mut socket = std::net::TcpStream::connect(world.other_proxy()).unwrap();
    let name = ServerName::try_from("app.test").unwrap();
    let mut tls = rustls::ClientConnection::new(trusting(&app, "http/1.1"), name).unwrap();
    tls.write_tls(&mut socket).unwrap();
    while tls.is_handshaking() {
        assert_ne!(tls.read_tls(&mut socket).unwrap(), 0);
        tls.process_new_packets().unwrap();
    }
    tls.writer().write_all(b"GET /x HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut packet = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut packet).unwrap();
    }
    socket.write_all(&packet).unwrap();
    let mut answer = Vec::new();
    while tls.read_tls(&mut socket).unwrap() > 0 {
        let state = tls.process_new_packets().unwrap();
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        tls.reader().read_exact(&mut plain).unwrap();
        answer.extend_from_slice(&plain);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// A reset would overtake the answer: whoever uploads a film would never learn why it was refused.
#[test]
fn an_answer_that_comes_before_the_end_of_an_upload_arrives() {
    let world = World::new().app(OPEN).start();
    for framing in ["Content-Length: 16777216", "Transfer-Encoding: chunked"] {
        let head = format!("PUT /film HTTP/1.1\r\nHost: nobody.test\r\n{framing}\r\n\r\n1000000\r\n");
        let mut socket = send(world.addr, head.as_bytes());
        for _ in 0..64 {
            socket.write_all(&[b'x'; 1 << 18]).unwrap();
        }
        assert_eq!(read_reply(&mut socket, true).map(|r| r.status), Some(421), "{framing}");
    }
}

#[test]
fn s_lim_1_a_websocket_is_an_open_connection_and_a_draining_gate_sends_it_away() {
    let mut world = World::new().app(OPEN).start();
    // The harness's app keeps a connection whose answer seems to say a length.
    world.backend.answers_with(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Content-Length: 0\r\n\r\n",
    );
    let ask = "GET /socket HTTP/1.1\r\nHost: app.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut socket = send(world.addr, ask.as_bytes());
    assert_eq!(read_reply(&mut socket, false).map(|r| r.status), Some(101));
    // Answers of other connections: hyper has let go of the socket's by now.
    for _ in 0..4 {
        exchange(world.addr, b"GET / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n");
    }
    assert!(world.gate().core().edge.connections.open() >= 1);
    world.stop();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xe9], "going away");
}

#[test]
fn s_frame_3_a_coding_that_readers_take_differently_is_refused_wherever_it_is_sent() {
    let world = World::new().app(OPEN).start();
    for target in ["/.stepgate/nope", "/.STEPGATE/x", "/.stepgate/login", "/.stepgate/wiring", "/"] {
        for host in ["login.test", "app.test", "other.test"] {
            let head = format!(
                "POST {target} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n\
                 GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
            );
            let reply = exchange(world.addr, head.as_bytes()).unwrap();
            assert_eq!(reply.status, 501, "{host}{target}");
        }
    }
    assert!(world.backend.received().is_empty());
}
