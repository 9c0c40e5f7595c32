//! Rules about the fields of a form or a document (S-PATH-8): what apps could read in two ways gets the strictest
//! verdict of the path, and what passes arrives as it was sent.

use std::time::Duration;

use http::{Request, Version};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use stepgate::base::budget::Taker;
use stepgate::domain::policy::matcher::{FormCondition, JsonCondition, Matcher};
use stepgate::domain::policy::{Outcome, Rule};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::world::{App, Client, HOST, LocalExecutor, World, level, needs, ok, policy, public, rule, soon, story};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
/// `view` is open to everybody, `delete` to nobody, and everything else needs a sign-in.
const VIEWS: u16 = 200;
const STRICTEST: u16 = 403;
const NEITHER: u16 = 401;
/// In place of the strictest verdict.
const NO_ROOM: u16 = 503;

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn with(rule: Rule, condition: impl FnOnce(&mut Matcher)) -> Rule {
    let mut rule = rule;
    condition(&mut rule.matcher);
    rule
}

fn rules() -> Vec<Rule> {
    let deny = || Outcome::Deny { sentence: "Nothing is deleted here.".into() };
    vec![
        with(rule("form-view", "/form", &[], public()), |m| {
            m.form = vec![FormCondition::new("action", values(&["view"]))];
        }),
        with(rule("form-delete", "/form", &[], deny()), |m| {
            m.form = vec![FormCondition::new("action", values(&["delete", "purge"]))];
        }),
        with(rule("json-view", "/json", &[], public()), |m| {
            m.json = vec![JsonCondition::new("do.action", values(&["view"]))];
        }),
        with(rule("json-delete", "/json", &[], deny()), |m| {
            m.json = vec![JsonCondition::new("do.action", values(&["delete"]))];
        }),
        with(rule("plain-json", "/plain", &[], deny()), |m| {
            m.json = vec![JsonCondition::new("action", values(&["delete"]))];
        }),
        rule("plain", "/plain", &[], public()),
        rule("open", "/pub/**", &[], public()),
    ]
}

async fn world() -> World {
    World::of(App::start(|_| ok("ok")).await, |route| route.policy = policy(rules())).await
}

async fn post(world: &World, target: &str, fields: &str, body: &str) -> u16 {
    world.ask(&format!("POST {target}"), &format!("{fields}Content-Length: {}\r\n", body.len()), body).await.status
}

async fn typed(world: &World, target: &str, kind: &str, body: &str) -> u16 {
    post(world, target, &format!("Content-Type: {kind}\r\n"), body).await
}

#[test]
fn s_path_8_a_field_of_a_form_decides_in_whatever_way_an_app_may_find_it() {
    story(async {
        let world = world().await;
        for (body, status) in [
            ("action=view", VIEWS),
            ("x=1&action=view&y=2", VIEWS),
            ("%61ction=v%69ew", VIEWS),
            ("action=delete", STRICTEST),
            ("action=purge", STRICTEST),
            ("a%63tion=d%65lete", STRICTEST),
            ("action=other", NEITHER),
            ("other=delete", NEITHER),
            // The first or the last, in whichever spelling.
            ("action=view&action=delete", STRICTEST),
            ("action=delete&action=view", STRICTEST),
            ("action=view&Action=delete", STRICTEST),
            ("action=view&action[]=delete", STRICTEST),
            ("action=view&action=view", NEITHER),
            ("action=view&action", NEITHER),
            // What PHP and others make of a name or a value.
            ("ACTION=delete", STRICTEST),
            ("action%5B%5D=delete", STRICTEST),
            ("action[0]=delete", STRICTEST),
            ("action[x][y]=delete", STRICTEST),
            ("+action=delete", STRICTEST),
            ("%20action=delete", STRICTEST),
            ("action=delete+", STRICTEST),
            ("action=%0Adelete", STRICTEST),
            ("action=DELETE", STRICTEST),
            ("action=VIEW", NEITHER),
            ("Action=view", NEITHER),
            // Where a field ends.
            ("x=1;action=delete", STRICTEST),
            ("action=view;action=delete", STRICTEST),
            ("x=1;action=view", NEITHER),
            // What cannot be read in one way may hold anything.
            ("action=view&_charset_=utf-7", STRICTEST),
            ("action=view&x=%00", STRICTEST),
            ("action=view&x=%ff", STRICTEST),
            ("action=view&x=%zz", STRICTEST),
            ("action=%u0064elete", STRICTEST),
            ("\u{feff}action=view", STRICTEST),
            ("{\"action\":\"delete\"}", STRICTEST),
            ("\n{\"action=view&x\":1}&action=view", STRICTEST),
        ] {
            assert_eq!(typed(&world, "/form", FORM, body).await, status, "{body}");
        }
        let many = format!("{}action=view", "x=&".repeat(256));
        assert_eq!(typed(&world, "/form", FORM, &many).await, STRICTEST, "some app reads fewer fields");
    });
}

#[test]
fn s_path_8_query_and_form_are_looked_at_together() {
    story(async {
        let world = world().await;
        for (target, body, status) in [
            ("/form?action=delete", "x=1", STRICTEST),
            ("/form?action=delete", "", STRICTEST),
            ("/form?action=delete", "action=view", STRICTEST),
            ("/form?action=view", "action=delete", STRICTEST),
            ("/form?Action[]=delete", "x=1", STRICTEST),
            ("/form?x=1;action=delete", "x=1", STRICTEST),
            ("/form?action=view", "x=1", NEITHER),
            ("/form?action=view", "", NEITHER),
            ("/form?action=view", "action=view", NEITHER),
            ("/form?x=%zz", "action=view", STRICTEST),
            ("/form?x=1", "action=view", VIEWS),
        ] {
            assert_eq!(typed(&world, target, FORM, body).await, status, "{target} {body}");
        }
        assert_eq!(world.get("/form?action=delete", "").await.status, STRICTEST);
        assert_eq!(world.get("/form?action=view", "").await.status, NEITHER);
        assert_eq!(world.get("/form", "").await.status, NEITHER);
    });
}

#[test]
fn s_path_8_a_body_of_another_kind_gets_the_strictest_verdict() {
    story(async {
        let world = world().await;
        let view = "action=view";
        for fields in [
            "",
            "Content-Type: \r\n",
            "Content-Type: text/plain\r\n",
            "Content-Type: application/json\r\n",
            "Content-Type: multipart/form-data; boundary=x\r\n",
            "Content-Type: Application/x-www-form-urlencoded\r\n",
            "Content-Type: application/x-www-form-urlencoded; charset=utf-16\r\n",
            "Content-Type: application/x-www-form-urlencoded; charset=ibm037\r\n",
            "Content-Type: application/x-www-form-urlencoded; charset=iso-8859-1\r\n",
            "Content-Type: application/x-www-form-urlencoded; a=/json\r\n",
            "Content-Type: application/x-www-form-urlencoded, application/json\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Type: application/json\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: gzip\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Encoding: identity\r\n",
        ] {
            assert_eq!(post(&world, "/form", fields, view).await, STRICTEST, "{fields}");
            // Nor does such a form pass the rules about a document.
            assert_eq!(post(&world, "/json", fields, view).await, STRICTEST, "{fields}");
        }
        assert_eq!(typed(&world, "/form", "application/x-www-form-urlencoded; charset=UTF-8", view).await, VIEWS);
        assert_eq!(typed(&world, "/json", FORM, view).await, STRICTEST);
        let parts = "--x\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\nview\r\n--x--\r\n";
        assert_eq!(typed(&world, "/form", "multipart/form-data; boundary=x", parts).await, STRICTEST);
        for empty in ["", "Content-Type: text/plain\r\n"] {
            assert_eq!(post(&world, "/form", empty, "").await, NEITHER, "nothing holds nothing");
        }
    });
}

#[test]
fn s_path_8_a_member_of_a_document_decides_in_whatever_way_an_app_may_find_it() {
    story(async {
        let world = world().await;
        for (body, status) in [
            (r#"{"do":{"action":"view"}}"#, VIEWS),
            (r#" {"x":[1],"do":{"y":{},"action":"view"}} "#, VIEWS),
            (r#"{"do":{"action":"\u0076iew"}}"#, VIEWS),
            (r#"{"do":{"action":"delete"}}"#, STRICTEST),
            (r#"{"d\u006f":{"action":"del\u0065te"}}"#, STRICTEST),
            (r#"{"do":{"action":"other"}}"#, NEITHER),
            (r#"{"do":{"action":null}}"#, NEITHER),
            (r#"{"do":null}"#, NEITHER),
            // Rails puts it into a `do` of its own where there is none (ParamsWrapper).
            (r#"{"action":"delete"}"#, STRICTEST),
            ("{}", NEITHER),
            // The first or the last, in whichever spelling.
            (r#"{"do":{"action":"view","action":"delete"}}"#, STRICTEST),
            (r#"{"do":{"action":"delete","action":"view"}}"#, STRICTEST),
            (r#"{"do":{"action":"view"},"do":{"action":"delete"}}"#, STRICTEST),
            (r#"{"do":{"action":"view"},"do":{}}"#, NEITHER),
            (r#"{"do":{"action":"view"},"Do":{"Action":"delete"}}"#, STRICTEST),
            (r#"{"do":{"action":"view","ACTION":"delete"}}"#, STRICTEST),
            (r#"{"Do":{"action":"view"}}"#, NEITHER),
            (r#"{"do":{"action":" delete"}}"#, STRICTEST),
            (r#"{"do.action":"delete"}"#, STRICTEST),
            (r#"{"do":{"action":"view"},"do.action":"delete"}"#, STRICTEST),
            // PHP holds `true` for equal to every text; a list may be gone through.
            (r#"{"do":{"action":true}}"#, STRICTEST),
            (r#"{"do":{"action":0}}"#, STRICTEST),
            (r#"{"do":{"action":["view"]}}"#, STRICTEST),
            (r#"{"do":{"action":{"view":1}}}"#, STRICTEST),
            (r#"{"do":[{"action":"view"}]}"#, STRICTEST),
            (r#"{"do":"{\"action\":\"view\"}"}"#, STRICTEST),
            (r#"[{"do":{"action":"view"}}]"#, STRICTEST),
            (r#""view""#, STRICTEST),
            // What cannot be read in one way may hold anything.
            (r#"{"do":{"action":"view"}} {"do":{"action":"delete"}}"#, STRICTEST),
            (r#"{"do":{"action":"view"}} x"#, STRICTEST),
            ("\u{feff}{\"do\":{\"action\":\"view\"}}", STRICTEST),
            (r#"{"do":{"action":"view\u0000"}}"#, STRICTEST),
            (r#"{"do":{"action":"view"},}"#, STRICTEST),
            (r#"{'do':{'action':'view'}}"#, STRICTEST),
            (r#"{"do":{"action":"view"},"x":01}"#, STRICTEST),
            (r#"/**/{"do":{"action":"view"}}"#, STRICTEST),
            (r#"{"do":{"action":"view"}"#, STRICTEST),
            ("do[action]=view", STRICTEST),
        ] {
            assert_eq!(typed(&world, "/json", JSON, body).await, status, "{body}");
        }
        let view = r#"{"do":{"action":"view"}}"#;
        for kind in
            ["text/json", "application/vnd.api+json", "application/json; charset=utf-16", "application/json;a=b"]
        {
            assert_eq!(typed(&world, "/json", kind, view).await, STRICTEST, "{kind}");
        }
        assert_eq!(typed(&world, "/json", "application/json; charset=utf-8", view).await, VIEWS);
        assert_eq!(typed(&world, "/form", JSON, view).await, STRICTEST);
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(typed(&world, "/json", JSON, &deep).await, STRICTEST);
        // Rails and Laravel look into the query too.
        assert_eq!(typed(&world, "/json?do[action]=delete", JSON, view).await, STRICTEST);
        assert_eq!(typed(&world, "/plain?action=delete", JSON, "{}").await, STRICTEST);
        assert_eq!(typed(&world, "/plain?action=x", JSON, "{}").await, VIEWS);
        assert_eq!(typed(&world, "/plain", JSON, r#"{"action":"delete"}"#).await, STRICTEST);
    });
}

#[test]
fn s_path_8_more_than_is_looked_into_may_hold_anything() {
    story(async {
        let world = world().await;
        let of = |length: usize| format!("action=view&x={}", "y".repeat(length - 14));
        assert_eq!(typed(&world, "/form", FORM, &of(64 * 1024)).await, VIEWS);
        assert_eq!(typed(&world, "/form", FORM, &of(64 * 1024 + 1)).await, STRICTEST);
        let chunked = async |length| {
            let text = of(length);
            let fields = format!("Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n");
            world.ask("POST /form", &fields, &format!("{length:x}\r\n{text}\r\n0\r\n\r\n")).await.status
        };
        assert_eq!(chunked(64 * 1024).await, VIEWS);
        assert_eq!(chunked(64 * 1024 + 1).await, STRICTEST);
        // Nor is it read to its end, which may be far.
        let mut client = world.connect().await;
        let fields = format!("Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n");
        client
            .write(&format!("POST /form HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n10001\r\n{}\r\n", of(0x1_0001)))
            .await;
        assert_eq!(client.answer(true).await.status, STRICTEST);
        world.reload(|route| {
            route.policy = policy(rules());
            route.limits.judge_body = 1024;
        });
        assert_eq!(typed(&world, "/form", FORM, &of(1024)).await, VIEWS);
        assert_eq!(typed(&world, "/form", FORM, &of(1025)).await, STRICTEST);
    });
}

#[test]
fn s_path_8_a_body_that_was_judged_arrives_as_it_was_sent() {
    story(async {
        let world = world().await;
        for length in [14_usize, 100, 60 * 1024] {
            let body = format!("action=v%69ew&x={}", "y".repeat(length));
            assert_eq!(typed(&world, "/form", FORM, &body).await, VIEWS);
            let seen = world.app.last();
            assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), body);
            assert_eq!(seen.values("content-length"), [body.len().to_string()]);
            assert!(seen.values("transfer-encoding").is_empty());
            assert_eq!(seen.values("content-type"), [FORM]);
        }
        let fields = format!("Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n");
        let answer = world.ask("POST /form", &fields, "4\r\nacti\r\n7\r\non=view\r\n0\r\n\r\n").await;
        assert_eq!(answer.status, VIEWS);
        let seen = world.app.last();
        assert_eq!(seen.values("transfer-encoding"), ["chunked"]);
        assert!(seen.values("content-length").is_empty());
        assert!(seen.whole && String::from_utf8_lossy(&seen.body).contains("action=view"));
        assert!(seen.body.ends_with(b"0\r\n\r\n"));
    });
}

#[test]
fn s_path_8_a_form_over_http_2_is_judged_and_carried_alike() {
    story(async {
        let world = world().await;
        let stream = TcpStream::connect(world.h2_addr).await.unwrap();
        let (mut client, driver) =
            hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(driver);
        let mut ask = async |kind: &str, body: &'static str| {
            let request = Request::post(format!("https://{HOST}/form")).version(Version::HTTP_2);
            let request = request
                .header("content-type", kind)
                .body(Full::new(bytes::Bytes::from_static(body.as_bytes())))
                .unwrap();
            soon(client.send_request(request)).await.unwrap().status().as_u16()
        };
        assert_eq!(ask(FORM, "action=view").await, VIEWS);
        assert_eq!(world.app.last().body, b"action=view");
        assert_eq!(world.app.last().values("content-length"), ["11"]);
        assert_eq!(ask(FORM, "action=delete").await, STRICTEST);
        assert_eq!(ask(FORM, "action=view&action=delete").await, STRICTEST);
        assert_eq!(ask("multipart/form-data; boundary=x", "action=view").await, STRICTEST);
        assert_eq!(ask(FORM, "action=x").await, NEITHER);
        assert_eq!(world.app.seen().len(), 1);
    });
}

#[test]
fn s_path_8_only_where_a_rule_could_decide_by_it_is_a_body_read_first() {
    story(async {
        let world = world().await;
        // The app has the head while the body is still on its way.
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\n")).await;
        client.write("Content-Length: 20\r\n\r\naction=").await;
        super::world::eventually(|| world.app.connections() == 1).await;
        client.write("delete&x=123\r").await;
        assert_eq!(client.answer(true).await.status, 200);
        // A form of which a part is missing is judged by nobody: its client hears so, and no app sees it.
        let seen = world.app.seen().len();
        let mut client = world.connect().await;
        client.write(&format!("POST /form HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\n")).await;
        client.write("Content-Length: 20\r\n\r\naction=view").await;
        drop(client);
        assert_eq!(typed(&world, "/form", FORM, "action=view").await, VIEWS);
        assert_eq!(world.app.seen().len(), seen + 1);
    });
}

#[test]
fn s_frame_7_who_waits_to_be_asked_for_a_form_is_asked() {
    story(async {
        let world = world().await;
        for (body, status) in [("action=view", VIEWS), ("action=delete", STRICTEST)] {
            let mut client = world.connect().await;
            client
                .write(&format!(
                    "POST /form HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\nExpect: 100-continue\r\n\
                     Content-Length: {}\r\n\r\n",
                    body.len()
                ))
                .await;
            let interim = client.answer(false).await;
            assert_eq!(interim.status, 100);
            client.write(body).await;
            assert_eq!(client.answer(true).await.status, status);
        }
        assert!(world.app.last().values("expect").is_empty());
        // Nobody is asked for what is not looked at.
        let fields = "Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 11\r\n";
        assert_eq!(world.ask("POST /form", fields, "").await.status, STRICTEST);
    });
}

/// Sends a form but for its end, which is left to be sent while `client` is read from.
async fn begins(world: &World, target: &str, fields: &str) -> Client {
    let mut client = world.connect().await;
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\n{fields}Expect: 100-continue\r\n\
         Content-Length: 13\r\n\r\n"
    );
    client.write(&head).await;
    assert_eq!(client.answer(false).await.status, 100, "it is being read");
    client.write("action=view").await;
    client
}

#[test]
fn s_sess_3_what_waited_for_its_body_is_not_carried_out_after_a_sign_out_or_under_a_policy_that_is_gone() {
    story(async {
        let world = world().await;
        // Read to be judged, and read because it may send a kept form on.
        let ticket = format!("__Host-Http-stepgate-form={}", "A".repeat(43));
        for (target, cookie) in [("/form", String::new()), ("/pub/x", format!("; {ticket}"))] {
            let ann = world.signs_in(&format!("ann{}", cookie.len())).await;
            let mut client = begins(&world, target, &format!("Cookie: {}{cookie}\r\n", ann.cookie)).await;
            world.ends(&ann).await;
            client.write("&b").await;
            assert_eq!(client.answer(true).await.status, 401, "{target}");
        }
        for (target, cookie) in [("/form", String::new()), ("/pub/x", format!("Cookie: {ticket}\r\n"))] {
            let mut client = begins(&world, target, &cookie).await;
            world.reload(|route| {
                route.policy = policy(vec![rule("all", "/**", &[], Outcome::Deny { sentence: "Closed.".into() })]);
            });
            client.write("&b").await;
            assert_eq!(client.answer(true).await.status, 403, "{target}");
            world.reload(|route| route.policy = policy(rules()));
        }
        assert!(world.app.seen().is_empty(), "nothing reached the app");
    });
}

#[test]
fn s_step_1_how_long_ago_somebody_showed_something_is_asked_when_the_form_has_come() {
    story(async {
        let fresh = || {
            let form = |rule| with(rule, |m| m.form = vec![FormCondition::new("action", values(&["view"]))]);
            vec![form(rule("now", "/form", &[], needs(&level("fresh", 1, 10))))]
        };
        let world = World::of(App::start(|_| ok("ok")).await, |route| route.policy = policy(fresh())).await;
        let ann = world.signs_in("ann").await;
        let fields = format!("Cookie: {}\r\n", ann.cookie);
        let mut client = begins(&world, "/form", &fields).await;
        world.clock.advance(Duration::from_secs(601));
        client.write("&b").await;
        assert_eq!(client.answer(true).await.status, 401);
        assert!(world.app.seen().is_empty());
    });
}

#[test]
fn s_lim_3_what_a_document_takes_in_memory_counts_and_not_its_length_alone() {
    story(async {
        let world = world().await;
        let small = "{\"\":".repeat(100) + "1" + &"}".repeat(100);
        let document = format!("{{{}}}", vec![format!("\"a\":{small}"); 100].join(","));
        assert_eq!(typed(&world, "/json", JSON, &document).await, NEITHER, "alone it has room");
        let held = stepgate::proxy::JUDGED_BODIES / 16 - 2 * document.len();
        let mut from_here = world.shared.judged_bodies.begin(Taker::Stranger(std::net::Ipv4Addr::LOCALHOST.into()));
        assert!(from_here.grow_to(held));
        assert_eq!(
            typed(&world, "/json", JSON, &document).await,
            NO_ROOM,
            "its text would have room, its values have none"
        );
        drop(from_here);
        assert_eq!(typed(&world, "/json", JSON, &document).await, NEITHER);
    });
}

#[test]
fn s_lim_1_who_announces_forms_and_does_not_send_them_takes_no_room() {
    story(async {
        let world = world().await;
        let mut slow = Vec::new();
        for _ in 0..stepgate::proxy::JUDGED_BODIES / 4 / (64 * 1024) {
            let mut client = world.connect().await;
            client
                .write(&format!(
                    "POST /form HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\nExpect: 100-continue\r\n\
                     Content-Length: 65536\r\n\r\n"
                ))
                .await;
            // It is being read.
            assert_eq!(client.answer(false).await.status, 100);
            client.write("action=view&").await;
            slow.push(client);
        }
        assert_eq!(typed(&world, "/form", FORM, "action=view").await, VIEWS);
    });
}

#[test]
fn s_lim_1_one_person_and_one_address_have_a_share_of_the_room_for_forms() {
    story(async {
        let world = world().await;
        let budget = &world.shared.judged_bodies;
        let (ann, ben) = (world.signs_in("ann").await, world.signs_in("ben").await);
        let as_who = |cookie: &str| format!("Content-Type: {FORM}\r\nCookie: {cookie}\r\n");
        let mut anns = budget.begin(Taker::Person(ann.user));
        assert!(anns.grow_to(stepgate::proxy::JUDGED_BODIES / 16));
        assert_eq!(post(&world, "/form", &as_who(&ann.cookie), "action=view").await, NO_ROOM);
        assert_eq!(post(&world, "/form", &as_who(&ben.cookie), "action=view").await, VIEWS);
        assert_eq!(typed(&world, "/form", FORM, "action=view").await, VIEWS);
        let mut from_here = budget.begin(Taker::Stranger(std::net::Ipv4Addr::LOCALHOST.into()));
        assert!(from_here.grow_to(stepgate::proxy::JUDGED_BODIES / 16));
        assert_eq!(typed(&world, "/form", FORM, "action=view").await, NO_ROOM);
        assert_eq!(post(&world, "/form", &as_who(&ben.cookie), "action=view").await, VIEWS);
        drop((anns, from_here));
        assert_eq!(post(&world, "/form", &as_who(&ann.cookie), "action=view").await, VIEWS);
    });
}

#[test]
fn s_lim_1_without_room_to_read_a_form_the_strictest_verdict_counts() {
    story(async {
        let world = world().await;
        let budget = &world.shared.judged_bodies;
        let strangers = budget.take(stepgate::proxy::JUDGED_BODIES / 4, true).unwrap();
        for body in ["action=view", "action=delete"] {
            let fields = format!("Content-Type: {FORM}\r\nContent-Length: {}\r\n", body.len());
            let refused = world.ask("POST /form", &fields, body).await;
            assert_eq!((refused.status, refused.values("retry-after")), (NO_ROOM, vec!["5"]), "to be tried again");
        }
        assert!(world.app.seen().is_empty(), "nothing reached the app");
        let ann = world.signs_in("ann").await;
        let fields = format!("Content-Type: {FORM}\r\nCookie: {}\r\n", ann.cookie);
        assert_eq!(post(&world, "/form", &fields, "action=view").await, VIEWS, "who is known finds room");
        drop(strangers);
        for _ in 0..3 {
            assert_eq!(typed(&world, "/form", FORM, "action=view").await, VIEWS);
        }
        super::world::eventually(|| budget.take(stepgate::proxy::JUDGED_BODIES, false).is_some()).await;
    });
}

#[test]
fn s_path_6_a_form_that_rules_look_into_may_still_turn_into_another_method() {
    story(async {
        let world = World::of(App::start(|_| ok("ok")).await, |route| {
            let deny = Outcome::Deny { sentence: "no".into() };
            let mut rules = vec![rule("remove", "/form", &[http::Method::DELETE], deny)];
            rules.extend(self::rules());
            route.policy = policy(rules);
        })
        .await;
        assert_eq!(typed(&world, "/form", FORM, "action=view").await, VIEWS);
        assert_eq!(typed(&world, "/form", FORM, "action=view&_method=delete").await, STRICTEST);
        assert_eq!(typed(&world, "/form", FORM, "action=view&_method=put").await, VIEWS);
        assert_eq!(typed(&world, "/form", "multipart/form-data; boundary=x", "x").await, STRICTEST);
    });
}

async fn reads(client: &mut Client, text: &str) {
    while client.buffer.len() < text.len() {
        assert!(soon(client.stream.read_buf(&mut client.buffer)).await.unwrap() > 0);
    }
    assert_eq!(std::mem::take(&mut client.buffer), text.as_bytes());
}

#[test]
fn s_ws_2_a_reload_judges_what_a_running_answer_was_asked_with() {
    story(async {
        let (send, pieces) = tokio::sync::mpsc::unbounded_channel();
        let pieces = std::cell::RefCell::new(Some(pieces));
        let app = App::start(move |_| super::world::Reply::Stream(pieces.borrow_mut().take().unwrap())).await;
        let world = World::of(app, |route| route.policy = policy(rules())).await;
        let mut client = world.connect().await;
        let body = "action=view";
        client
            .write(&format!(
                "POST /form HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        send.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst".to_vec()).unwrap();
        client.head().await;
        reads(&mut client, "first").await;
        world.reload(|route| route.policy = policy(rules()));
        send.send(b"se".to_vec()).unwrap();
        reads(&mut client, "se").await;
        // `view` is closed now.
        world.reload(|route| route.policy = policy(rules().split_off(1)));
        assert_eq!(client.until_closed().await, b"");
    });
}
