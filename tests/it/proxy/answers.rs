//! What an app may say to a browser, and what is kept from it.

use super::world::{App, HOST, Reply, World, ok, story};

async fn saying(fields: &'static str) -> World {
    let app = App::start(move |_| Reply::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok"))).await;
    World::of(app, |_| {}).await
}

#[test]
fn s_cook_3_an_app_sets_no_cookie_of_ours_and_none_for_its_siblings() {
    story(async {
        let world = saying(
            "Set-Cookie: a=1; Path=/\r\n\
             Set-Cookie: __Host-Http-stepgate=x; Secure; Path=/\r\n\
             Set-Cookie: __host-http-STEPGATE-nonce=x\r\n\
             Set-Cookie: =__Host-Http-stepgate=x\r\n\
             Set-Cookie: __Host-Http-stepgate\r\n\
             Set-Cookie: a=1,__Host-Http-stepgate=x; Path=/\r\n\
             Set-Cookie: =%5f_Host-Http-stepgate=x\r\n\
             Set-Cookie: b=2; Domain=.example; Secure; domain=example\r\n\
             Set-Cookie: c=3; Domain=app.example\r\n",
        )
        .await;
        let answer = world.get("/pub/x", "").await;
        assert_eq!(answer.values("set-cookie"), ["a=1; Path=/", "b=2; Secure", "c=3; Domain=app.example"]);
        assert!(world.metrics.render().contains("cookies_dropped_total{app=\"wiki\"} 6"), "{}", world.metrics.render());
        world.reload(|route| route.cookie_domains = vec!["example".into()]);
        let answer = world.get("/pub/x", "").await;
        assert!(answer.values("set-cookie").contains(&"b=2; Domain=.example; Secure; domain=example"));
    });
}

#[test]
fn s_cook_3_an_app_that_clears_the_data_of_its_site_signs_nobody_out() {
    story(async {
        for (says, reaches) in [
            (r#""cache", "cookies", "storage""#, Some(r#""cache", "storage""#)),
            (r#""*""#, Some(r#""cache", "storage", "executionContexts""#)),
            (r#""storage","*""#, Some(r#""storage", "cache", "executionContexts""#)),
            (r#""cookies""#, None),
            (r#"cookies"#, None),
            (r#"" Cookies ""#, None),
            (r#""executionContexts""#, Some(r#""executionContexts""#)),
            ("\"cache\"\r\nclear-site-data: \"cookies\"", Some(r#""cache""#)),
        ] {
            let app = App::start(move |_| {
                Reply::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nClear-Site-Data: {says}\r\n\r\nok"))
            });
            let world = World::of(app.await, |_| {}).await;
            let answer = world.get("/pub/x", "").await;
            assert_eq!(answer.values("clear-site-data"), Vec::from_iter(reaches), "{says}");
        }
    });
}

#[test]
fn s_frame_5_trailers_of_an_app_are_dropped_and_more_of_them_than_16_kib_end_the_answer() {
    story(async {
        let app = App::start(|seen| {
            let kib = seen.values("x-kib").first().map_or(0, |kib| kib.parse().unwrap());
            let late: String = (0..kib).map(|n| format!("X-Late-{n}: {}\r\n", "x".repeat(1010))).collect();
            Reply::Say(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{late}\r\n"))
        })
        .await;
        let world = World::of(app, |_| {}).await;
        for _ in 0..2 {
            let answer = world.get("/pub/x", "X-KiB: 14\r\n").await;
            assert!(answer.whole && answer.text() == "ok" && !answer.head.contains("late"), "{}", answer.head);
        }
        assert_eq!(world.app.connections(), 1, "they were read to their end, so the connection may be used again");
        let mut client = world.connect().await;
        client.write(&format!("GET /pub/x HTTP/1.1\r\nHost: {HOST}\r\nX-KiB: 20\r\n\r\n")).await;
        let all = client.until_closed().await;
        let all = String::from_utf8_lossy(&all);
        assert!(!all.contains("late") && !all.ends_with("0\r\n\r\n"), "an aborted answer, not a finished one: {all}");
        assert_eq!(world.get("/pub/x", "").await.text(), "ok", "and the next one has a connection of its own");
        assert_eq!(world.app.connections(), 2);
    });
}

#[test]
fn s_up_4_what_leads_around_the_gate_is_dropped() {
    story(async {
        let world = saying(
            "Alt-Svc: h3=\":443\"\r\nX-Accel-Redirect: /secret\r\nX-Sendfile: /etc/passwd\r\nKeep-Alive: timeout=5\r\n\
             Connection: X-Hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\nTrailer: x\r\nServer: legacy/1\r\n",
        )
        .await;
        let answer = world.get("/pub/x", "").await;
        for gone in
            ["alt-svc", "x-accel-redirect", "x-sendfile", "keep-alive", "x-hop", "proxy-authenticate", "trailer"]
        {
            assert!(answer.values(gone).is_empty(), "{gone}");
        }
        assert_eq!(answer.values("server"), ["legacy/1"], "the rest is the app's own");
    });
}

#[test]
fn s_up_4_the_apps_own_origin_becomes_the_public_one() {
    story(async {
        let app = App::start(|seen| {
            let port = seen.values("x-port").join("");
            let to = seen.values("x-to").join("").replace("PORT", &port);
            Reply::Say(format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nRefresh: 5; URL={to}\r\nContent-Length: 0\r\n\r\n"
            ))
        })
        .await;
        let port = app.addr.port();
        let world = World::of(app, |_| {}).await;
        for (said, expected) in [
            ("http://127.0.0.1:PORT/x?y#z", "https://app.example/x?y#z"),
            ("//127.0.0.1:PORT/x", "https://app.example/x"),
            ("http://app.example/x", "https://app.example/x"),
            ("http://app.example:PORT/", "https://app.example/"),
            ("https://app.example/x", "https://app.example/x"),
            ("/relative", "/relative"),
            ("http://127.0.0.1:1/x", "http://127.0.0.1:1/x"),
            ("https://other.example/x", "https://other.example/x"),
            ("http://app.example.evil/", "http://app.example.evil/"),
        ] {
            let answer = world.get("/pub/x", &format!("X-Port: {port}\r\nX-To: {said}\r\n")).await;
            assert_eq!(answer.values("location"), [expected], "{said}");
            assert_eq!(answer.values("refresh"), [format!("5; URL={expected}")]);
        }
    });
}

#[test]
fn s_up_5_a_signed_in_answer_is_private_at_least() {
    story(async {
        for (said, private) in [
            ("", "private"),
            ("Cache-Control: public, max-age=600\r\n", "private, max-age=600"),
            ("Cache-Control: max-age=600, s-maxage=900\r\nCDN-Cache-Control: max-age=1\r\n", "private, max-age=600"),
            ("Cache-Control: no-store\r\n", "no-store"),
            ("Cache-Control: no-store, public\r\n", "private, no-store"),
            ("Cache-Control: private, max-age=5\r\n", "private, max-age=5"),
            ("Cache-Control: private=\"set-cookie\", max-age=5\r\n", "private, max-age=5"),
        ] {
            let world = saying(said).await;
            let ann = world.signs_in("ann").await;
            let answer = world.get_as(&ann, "/page").await;
            assert_eq!(answer.values("cache-control"), [private], "{said}");
            assert!(answer.values("cdn-cache-control").is_empty());
        }
        let world = saying("Cache-Control: public, max-age=600\r\n").await;
        assert_eq!(world.get("/pub/x", "").await.values("cache-control"), ["public, max-age=600"]);
    });
}

#[test]
fn s_frame_13_answers_are_framed_once() {
    story(async {
        let app = App::start(|seen| {
            Reply::Say(
                match seen.line().split(' ').nth(1).unwrap_or_default() {
                    "/pub/both" => {
                        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                    }
                    "/pub/two" => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
                    "/pub/hints" => {
                        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    }
                    "/pub/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: \"x\"\r\n\r\n",
                    "/pub/reason" => "HTTP/1.1 200 All fine\r\nContent-Length: 2\r\n\r\nok",
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n",
                }
                .to_owned(),
            )
        })
        .await;
        let world = World::of(app, |_| {}).await;
        let both = world.get("/pub/both", "").await;
        assert_eq!((both.text().as_str(), both.values("content-length").len()), ("ok", 0));
        assert_eq!(world.get("/pub/two", "").await.status, 502);
        let hints = world.get("/pub/hints", "").await;
        assert_eq!((hints.status, hints.text().as_str()), (200, "ok"));
        assert_eq!(world.ask("HEAD /pub/head", "", "").await.values("content-length"), ["77"]);
        let unchanged = world.get("/pub/304", "If-None-Match: \"x\"\r\n").await;
        assert_eq!((unchanged.status, unchanged.values("etag")), (304, vec!["\"x\""]));
        assert!(world.get("/pub/reason", "").await.head.starts_with("HTTP/1.1 200 All fine\r\n"));
    });
}

#[test]
fn ranges_and_large_answers_come_through_whole() {
    story(async {
        let app = App::start(|seen| {
            if seen.values("range") == ["bytes=0-1"] {
                return Reply::Say(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok".into(),
                );
            }
            Reply::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}", "x".repeat(3_000_000)))
        })
        .await;
        let world = World::of(app, |_| {}).await;
        let part = world.get("/pub/x", "Range: bytes=0-1\r\n").await;
        assert_eq!((part.status, part.values("content-range")), (206, vec!["bytes 0-1/9"]));
        assert_eq!(world.get("/pub/x", "").await.body.len(), 3_000_000);
        assert_eq!(world.app.connections(), 1);
    });
}

#[test]
fn s_frame_13_an_answer_that_breaks_off_is_not_finished_for_the_client() {
    story(async {
        let app = App::start(|seen| {
            Reply::SayAndClose(if seen.line().contains("length") {
                "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".into()
            } else {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".into()
            })
        })
        .await;
        let world = World::of(app, |_| {}).await;
        assert!(!world.get("/pub/length", "").await.whole);
        assert!(!world.get("/pub/chunked", "").await.whole);
    });
}

/// A browser whose request met no byte of an answer, on a connection that it used before, sends it once more.
#[test]
fn s_frame_9_an_answer_whose_body_fails_at_once_begins_all_the_same() {
    story(async {
        let app = App::start(|seen| {
            let length = "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n";
            let chunked = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n";
            match seen.line().split(' ').nth(1).unwrap_or_default() {
                "/pub/length" => Reply::SayAndClose(length.into()),
                "/pub/length-and-some" => Reply::SayAndClose(format!("{length}some")),
                "/pub/chunked" => Reply::SayAndClose(chunked.into()),
                "/pub/no-chunk" => Reply::Say(format!("{chunked}zz\r\nhello\r\n0\r\n\r\n")),
                _ => ok("ok"),
            }
        })
        .await;
        let world = World::of(app, |_| {}).await;
        for path in ["/pub/length", "/pub/length-and-some", "/pub/chunked", "/pub/no-chunk"] {
            let mut client = world.connect().await;
            client.write(&format!("GET /pub/before HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            assert_eq!(client.answer(true).await.text(), "ok");
            client.write(&format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi")).await;
            let got = String::from_utf8(client.until_closed().await).unwrap();
            assert!(got.starts_with("HTTP/1.1 201 ") && !got.ends_with("0\r\n\r\n"), "{path}: {got:?}");
        }
    });
}
