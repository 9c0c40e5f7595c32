//! What a rule answers in the app's place, and an app that lives under a prefix.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use stepgate::domain::policy::{Answer, Outcome, Redirect, Respond, Rule};
use stepgate::domain::route::Route;

use super::world::{App, Reply, World, level, needs, ok, policy, public, rule, story};

fn answered(name: &str, glob: &str, outcome: Outcome, answer: Answer) -> Rule {
    Rule { answer: Some(Arc::new(answer)), ..rule(name, glob, &[], outcome) }
}

fn redirect(to: &str) -> Answer {
    Answer::Redirect(Redirect::to(StatusCode::TEMPORARY_REDIRECT, to))
}

fn respond(status: u16, body: &'static str) -> Answer {
    Answer::Respond(Respond {
        status: StatusCode::from_u16(status).unwrap(),
        content_type: "text/plain; charset=utf-8".into(),
        body: Bytes::from_static(body.as_bytes()),
    })
}

#[test]
fn a_redirect_is_for_who_passes_and_takes_form_and_query_along() {
    story(async {
        let rules = vec![
            answered("root", "/", public(), redirect("/app/")),
            answered("mine", "/mine", needs(&level("password", 1, 600)), redirect("/app/mine")),
        ];
        let world = World::of(App::start(|_| ok("the app")).await, |route| route.policy = policy(rules)).await;
        let root = world.get("/?a=b", "").await;
        assert_eq!((root.status, root.values("location")), (307, vec!["/app/?a=b"]));
        let form = world.ask("POST /", "Content-Length: 3\r\n", "a=1").await;
        assert_eq!(form.status, 307);
        let stranger = world.get("/mine", "").await;
        assert_eq!(stranger.status, 401, "a redirect opens nothing");
        let ann = world.signs_in("ann").await;
        let mine = world.get_as(&ann, "/mine").await;
        assert_eq!((mine.status, mine.values("location")), (307, vec!["/app/mine"]));
        assert_eq!(mine.values("cache-control"), ["private, no-store"], "S-UP-5");
        assert!(world.app.seen().is_empty(), "the app was asked nothing");
    });
}

#[test]
fn an_answer_is_given_whole_and_only_its_head_to_head() {
    story(async {
        let rules = vec![answered("robots", "/robots.txt", public(), respond(200, "User-agent: *\nDisallow: /\n"))];
        let world = World::of(App::start(|_| ok("the app")).await, |route| route.policy = policy(rules)).await;
        let answer = world.get("/robots.txt", "").await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, "User-agent: *\nDisallow: /\n".as_bytes()));
        assert_eq!(answer.values("content-type"), ["text/plain; charset=utf-8"]);
        assert_eq!(answer.values("x-content-type-options"), ["nosniff"]);
        assert_eq!(answer.values("cache-control"), ["no-cache"], "nobody signed in for it");
        let head = world.ask("HEAD /robots.txt", "", "").await;
        assert_eq!((head.status, head.values("content-length"), head.body.as_slice()), (200, vec!["26"], &b""[..]));
        assert!(world.app.seen().is_empty());
    });
}

#[test]
fn s_path_4_an_answer_that_turns_away_holds_under_every_reading_and_a_redirect_never_goes_round() {
    story(async {
        let rules = vec![
            answered("gone", "/setup", public(), respond(404, "gone")),
            answered("closed", "/shop/**", public(), respond(200, "closed")),
            answered("slash", "/wiki", needs(&level("password", 1, 600)), redirect("/wiki/")),
            rule("open", "/**", &[], public()),
        ];
        let world = World::of(App::start(|_| ok("the app")).await, |route| route.policy = policy(rules)).await;
        for spelling in ["/setup", "/SETUP", "/setup/", "/Setup.json", "/%73etup"] {
            assert_eq!(world.get(spelling, "").await.status, 404, "{spelling}");
        }
        assert_eq!(world.get("/SHOP/x", "").await.body, b"closed");
        // The redirect asks for more than the place that it leads to: it still does not hold there.
        let ann = world.signs_in("ann").await;
        assert_eq!(world.get_as(&ann, "/wiki").await.status, 307);
        for spelling in ["/wiki/", "/Wiki/"] {
            assert_eq!(world.get_as(&ann, spelling).await.status, 200, "{spelling}");
        }
        let reached: Vec<String> = world.app.seen().iter().map(|s| s.line().to_owned()).collect();
        assert_eq!(reached, ["GET /wiki/ HTTP/1.1", "GET /Wiki/ HTTP/1.1"]);
    });
}

#[test]
fn a_copy_does_not_write_where_the_gate_answers_for_the_app() {
    story(async {
        let rules = vec![
            answered("robots", "/robots.txt", public(), respond(200, "")),
            rule(
                "open",
                "/**",
                &[Method::GET, Method::PUT, Method::DELETE, Method::from_bytes(b"COPY").unwrap()],
                public(),
            ),
        ];
        let world = World::of(App::start(|_| ok("the app")).await, |route| route.policy = policy(rules)).await;
        assert_eq!(world.ask("COPY /a", "Destination: /robots.txt\r\n", "").await.status, 400);
        assert_eq!(world.ask("COPY /a", "Destination: /b.txt\r\n", "").await.status, 200);
    });
}

fn under_legacy(route: &mut Route) {
    Arc::make_mut(&mut route.upstream).path_prefix = "/legacy".into();
}

#[test]
fn s_path_1_an_app_under_a_prefix_gets_the_judged_path_behind_it_and_nothing_else() {
    story(async {
        let world = World::of(App::start(|_| ok("the app")).await, under_legacy).await;
        for (asked, sent) in [
            ("/pub/", "/legacy/pub/"),
            ("/pub/x?y=/z", "/legacy/pub/x?y=/z"),
            ("/pub/legacy/x", "/legacy/pub/legacy/x"),
            ("/pub/a%20b", "/legacy/pub/a%20b"),
        ] {
            assert_eq!(world.get(asked, "").await.status, 200, "{asked}");
            assert_eq!(world.app.last().line(), format!("GET {sent} HTTP/1.1"));
        }
        for out in ["/pub/../x", "/pub/..", "/pub/%2e%2e/x"] {
            assert_eq!(world.get(out, "").await.status, 400, "{out}");
        }
        let copy = world.ask("COPY /pub/a", "Destination: https://app.example/pub/b\r\n", "").await;
        assert_eq!(copy.status, 200);
        assert_eq!(world.app.last().values("destination"), ["http://app.example/legacy/pub/b"]);
    });
}

#[test]
fn s_up_4_an_app_under_a_prefix_speaks_of_paths_as_browsers_see_them() {
    story(async {
        let app = App::start(|seen| {
            let port = seen.values("x-port").join("");
            let to = seen.values("x-to").join("").replace("PORT", &port);
            Reply::Say(format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nRefresh: 5; URL={to}\r\nContent-Length: 0\r\n\
                 Set-Cookie: a=1; Path=/legacy; Secure\r\nSet-Cookie: b=1; path=/legacy/x\r\n\
                 Set-Cookie: c=1; Path=/legacyx\r\nSet-Cookie: d=1\r\n\
                 Set-Cookie: e=1; Domain=example; Path=/legacy/\r\n\r\n"
            ))
        })
        .await;
        let port = app.addr.port();
        let world = World::of(app, under_legacy).await;
        for (said, expected) in [
            ("/legacy/x?y#z", "https://app.example/x?y#z"),
            ("/legacy", "https://app.example/"),
            ("/legacy?x", "https://app.example/?x"),
            ("/legacy/\\evil.example/x", "https://app.example/\\evil.example/x"),
            ("/legacy/\t/evil.example/x", "https://app.example/\t/evil.example/x"),
            ("/legacy//evil.example/x", "https://app.example//evil.example/x"),
            ("/legacyx", "/legacyx"),
            ("relative", "relative"),
            ("http://127.0.0.1:PORT/legacy/x", "https://app.example/x"),
            ("https://app.example/legacy/x", "https://app.example/x"),
            ("https://app.example/other", "https://app.example/other"),
            ("https://other.example/legacy/x", "https://other.example/legacy/x"),
        ] {
            let answer = world.get("/pub/x", &format!("X-Port: {port}\r\nX-To: {said}\r\n")).await;
            assert_eq!(answer.values("location"), [expected], "{said}");
            assert_eq!(answer.values("refresh"), [format!("5; URL={expected}")]);
            assert_eq!(
                answer.values("set-cookie"),
                ["a=1; Path=/; Secure", "b=1; Path=/x", "c=1; Path=/legacyx", "d=1", "e=1; Path=/"]
            );
        }
    });
}
