//! Who is let through to the app, and what everybody else is told.

use http::Method;

use super::world::{App, World, anyone, between_looks, level, needs, ok, policy, public, rule, soon, story};
use stepgate::domain::policy::{Allow, Outcome, Rule, Who};
use stepgate::domain::user::GroupName;

const NAVIGATES: &str = "Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n";

#[test]
fn a_browser_is_led_to_the_portal_and_a_program_is_told_in_a_401() {
    story(async {
        let world = World::plain().await;
        let page = world.get("/page/7?tab=2", NAVIGATES).await;
        assert_eq!(page.status, 302);
        let location = page.values("location")[0].to_owned();
        assert!(location.starts_with("https://login.example/.stepgate/login?rd="), "{location}");
        assert!(page.values("set-cookie")[0].starts_with("__Host-Http-stepgate-nonce-"));
        assert_eq!(page.values("cache-control"), ["no-store"]);

        let form = world.ask("POST /page/7", &format!("{NAVIGATES}Content-Length: 3\r\n"), "a=1").await;
        assert_eq!(form.status, 303);

        let program = world.get("/page/7", "Accept: application/json\r\n").await;
        assert_eq!(program.status, 401);
        assert!(program.values("location").is_empty());
        assert_eq!(program.json()["type"], "urn:stepgate:problem:sign-in-required");
        assert!(program.json()["login_url"].as_str().unwrap().starts_with("https://login.example/"));
        assert!(program.values("www-authenticate")[0].contains("acr_values=\"password\""));
        assert!(world.app.seen().is_empty(), "nothing reached the app");
    });
}

#[test]
fn a_second_tab_keeps_the_nonce_of_the_first() {
    story(async {
        let world = World::plain().await;
        let first = world.get("/a", NAVIGATES).await;
        let cookie = first.values("set-cookie")[0].split(';').next().unwrap().to_owned();
        let second = world.get("/b", &format!("{NAVIGATES}Cookie: {cookie}\r\n")).await;
        assert_eq!(second.status, 302);
        assert!(second.values("set-cookie").is_empty());
    });
}

#[test]
fn a_step_up_is_asked_of_somebody_known() {
    story(async {
        let fresh = level("fresh", 2, 10);
        let app = App::start(|_| ok("ok")).await;
        let world =
            World::of(app, |route| route.policy = policy(vec![rule("pay", "/pay/**", &[], needs(&fresh))])).await;
        let ann = world.signs_in("ann").await;
        let cookie = format!("Cookie: {}\r\n", ann.cookie);
        let page = world.get("/pay/7", &format!("{NAVIGATES}{cookie}")).await;
        assert!(page.values("location")[0].starts_with("https://login.example/.stepgate/step-up?rd="));
        let program = world.get("/pay/7", &cookie).await;
        assert_eq!(program.status, 401);
        assert_eq!(program.json()["type"], "urn:stepgate:problem:step-up-required");
        assert_eq!(program.json()["level"], "fresh");
        let told = program.values("www-authenticate")[0];
        assert!(told.contains("error=\"insufficient_user_authentication\""), "{told}");
        assert!(told.contains("acr_values=\"fresh\", max_age=\"600\""), "{told}");
    });
}

#[test]
fn a_refusal_says_why_and_stands_in_the_trail_for_known_people_only() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| {
            let no = Outcome::Deny { sentence: "Exports work from the office.".into() };
            let leads = Allow(vec![Who::Group(GroupName::parse("leads").unwrap())]);
            let leads = Outcome::Require { allow: leads, level: level("password", 1, 600) };
            route.policy = policy(vec![rule("export", "/export/**", &[], no), rule("leads", "/leads/**", &[], leads)]);
        })
        .await;
        let ann = world.signs_in("ann").await;
        let denied = world.get_as(&ann, "/export/1").await;
        assert_eq!((denied.status, denied.json()["detail"].as_str()), (403, Some("Exports work from the office.")));
        let page = world.get("/leads/1", &format!("{NAVIGATES}Cookie: {}\r\n", ann.cookie)).await;
        assert_eq!(page.status, 403);
        assert!(page.text().contains("<html"), "{}", page.text());
        assert_eq!(world.get("/export/1", "").await.status, 403, "a stranger");
        let rows = || async { world.store.audit_rows(&Default::default(), 0, 100).await.unwrap() };
        soon(async {
            loop {
                let denials = rows().await.iter().filter(|row| row.payload.contains("access_deny")).count();
                assert!(denials <= 2);
                if denials == 2 {
                    break;
                }
                between_looks().await;
            }
        })
        .await;
        assert!(world.app.seen().is_empty());
    });
}

#[test]
fn s_sess_6_a_bad_cookie_is_refused_on_public_paths_too_and_taken_away() {
    story(async {
        let world = World::plain().await;
        let ann = world.signs_in("ann").await;
        let (name, value) = ann.cookie.split_once('=').unwrap();
        let forged = format!("{name}={}x", &value[..value.len() - 1]);
        for bad in [
            forged,
            format!("{name}=x"),
            format!("{}; {}", ann.cookie, ann.cookie),
            format!("{}; =__host-http-STEPGATE=y", ann.cookie),
        ] {
            let answer = world.get("/pub/app.css", &format!("Cookie: {bad}\r\n")).await;
            assert_eq!(answer.status, 400, "{bad}");
            let cleared = answer.values("set-cookie");
            assert!(cleared.iter().any(|c| c.starts_with("__Host-Http-stepgate=;")), "{cleared:?}");
        }
        for (bad, wanted) in [
            ("theme=1,__Host-Http-stepgate=x", "theme=; Path=/; Secure; Max-Age=0; Domain=example"),
            ("%5f_Host-Http-stepgate=x", "=gone; Path=/; Secure; Max-Age=0"),
        ] {
            let answer = world.get("/pub/app.css", &format!("Cookie: {bad}\r\n")).await;
            assert_eq!(answer.status, 400, "{bad}");
            assert!(answer.values("set-cookie").contains(&wanted), "{:?}", answer.values("set-cookie"));
        }
        assert!(world.app.seen().is_empty());
        assert_eq!(world.get("/pub/app.css", "").await.status, 200, "no cookie is nobody");
        world.ends(&ann).await;
        assert_eq!(world.get_as(&ann, "/pub/app.css").await.status, 200, "an ended session is nobody");
        assert_eq!(world.get_as(&ann, "/page").await.status, 401);
    });
}

#[test]
fn an_unclear_path_is_refused_before_anybody_judges_it() {
    story(async {
        let world = World::plain().await;
        for bad in ["/pub/../page", "/pub%2fx", "//page", "/pub/x;y", "/%zz"] {
            let answer = world.get(bad, "").await;
            assert_eq!(answer.status, 400, "{bad}");
            assert_eq!(answer.json()["type"], "urn:stepgate:problem:ambiguous-path");
        }
        assert!(world.app.seen().is_empty());
    });
}

#[test]
fn nothing_under_the_gates_own_prefix_reaches_the_app() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| {
            let mut all = policy(vec![rule("all", "/**", &[], public())]);
            all.forms.allow_path_params = true;
            all.forms.allow_double_slash = true;
            route.policy = all;
        })
        .await;
        for path in
            ["/%2estepgate/login", "/.%73tepgate/", "/.STEPGATE/x", "/.stepgate", "/.stepgate;x/login", "//.stepgate/x"]
        {
            assert_eq!(world.get(path, "").await.status, 400, "{path}");
        }
        assert!(world.app.seen().is_empty());
        assert_eq!(world.get("/.stepgates", "").await.status, 200);
    });
}

/// POST is allowed to anybody who is signed in, DELETE to nobody.
async fn with_a_delete_rule() -> World {
    let app = App::start(|_| ok("ok")).await;
    World::of(app, |route| {
        let no = Outcome::Deny { sentence: "Nobody deletes.".into() };
        route.policy = policy(vec![
            rule("no-delete", "/items/**", &[Method::DELETE], no),
            rule("items", "/items/**", &[], Outcome::Public { allow: anyone() }),
            rule("other", "/other/**", &[], public()),
        ]);
    })
    .await
}

#[test]
fn s_path_6_an_override_is_judged_as_the_method_it_makes() {
    story(async {
        let world = with_a_delete_rule().await;
        let post = |kind: &str, body: &str| {
            let fields = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
            let body = body.to_owned();
            let world = &world;
            async move { world.ask("POST /items/7", &fields, &body).await.status }
        };
        let form = "application/x-www-form-urlencoded";
        assert_eq!(post(form, "name=x").await, 200);
        assert_eq!(world.app.last().body, b"name=x", "what was read to be judged arrives whole");
        for body in [
            "_method=delete",
            "a=b&_method=DELETE",
            "a=b;_method=DELETE",
            "%5fmethod=Delete",
            // Express 4 and Rack 2 take the brackets for none of the name.
            "[_method]=DELETE",
            "%5b_method%5D=DELETE",
            "_method=put&_method=delete",
        ] {
            assert_eq!(post(form, body).await, 403, "{body}");
        }
        assert_eq!(post("application/json", "{\"_method\":\"DELETE\"}").await, 403);
        assert_eq!(post("application/json", "{\"name\":1}").await, 200);
        assert_eq!(post("multipart/form-data; boundary=x", "--x--").await, 403, "it cannot be read");
        assert_eq!(post(&format!("{form}; charset=ibm037"), "name=x").await, 403);
        let long = format!("name={}", "x".repeat(70_000));
        assert_eq!(post(form, &long).await, 403, "longer than is read");
        assert_eq!(world.ask("POST /items/7?_method=DELETE", "Content-Length: 0\r\n", "").await.status, 403);
        assert_eq!(world.ask("POST /items/7?a=1;_method=DELETE", "Content-Length: 0\r\n", "").await.status, 403);
    });
}

/// A framework makes any method of a POST, a GET as well: who may write is not yet who may read.
#[test]
fn s_path_6_a_form_that_cannot_be_read_is_judged_as_each_method_that_the_rules_name() {
    story(async {
        let world = World::of(App::start(|_| ok("ok")).await, |route| {
            let no = |text: &str| Outcome::Deny { sentence: text.into() };
            route.policy = policy(vec![
                rule("no-read", "/wages/**", &[Method::GET], no("Nobody reads here.")),
                rule("no-purge", "/cache/**", &[Method::from_bytes(b"PURGE").unwrap()], no("Nobody purges.")),
                rule("write", "/named/**", &[Method::POST, Method::PUT, Method::PATCH, Method::DELETE], public()),
                rule("other", "/wages/**", &[], public()),
                rule("others", "/cache/**", &[], public()),
                rule("rest", "/named/**", &[], no("Nothing else is done here.")),
            ]);
        })
        .await;
        let ask = async |path: &str, kind: &str, body: &str| {
            let fields = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
            world.ask(&format!("POST {path}"), &fields, body).await.status
        };
        let parts = "--x\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nGET\r\n--x--\r\n";
        let form = "application/x-www-form-urlencoded";
        for path in ["/wages/7", "/cache/7", "/named/7"] {
            assert_eq!(ask(path, "multipart/form-data; boundary=x", parts).await, 403, "{path}");
            assert_eq!(ask(path, form, "name=x").await, 200, "{path}: what can be read says what it is");
        }
        assert_eq!(ask("/wages/7", form, "_method=GET").await, 403);
        assert_eq!(world.app.seen().len(), 3);
    });
}

#[test]
fn s_path_6_where_methods_are_not_told_apart_nothing_is_read_first() {
    story(async {
        let world = with_a_delete_rule().await;
        let long = "x".repeat(200_000);
        let fields = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 200000\r\n";
        assert_eq!(world.ask("POST /other/7", fields, &long).await.status, 200);
        assert_eq!(world.app.last().body.len(), 200_000);
    });
}

#[test]
fn s_path_6_override_fields_do_not_reach_the_app() {
    story(async {
        let world = World::plain().await;
        let fields = "X-HTTP-Method-Override: DELETE\r\nX-Method-Override: DELETE\r\nX_HTTP_Method: DELETE\r\n";
        assert_eq!(world.get("/pub/x", fields).await.status, 200);
        assert!(!world.app.last().head.to_ascii_lowercase().contains("delete"));
    });
}

/// A COPY or MOVE writes to the place that its `Destination` names: it is judged there as well,
/// and what the app gets is what was judged.
#[test]
fn s_path_2_a_destination_is_judged_like_the_path() {
    story(async {
        let world = World::of(App::start(|_| ok("done")).await, |route| {
            let no = |text: &str| Outcome::Deny { sentence: text.into() };
            route.policy = policy(vec![
                rule("vault", "/vault/**", &[], no("The vault is closed.")),
                rule("keep", "/keep/**", &[Method::DELETE], no("Nothing is deleted here.")),
                rule("read", "/read/**", &[Method::PUT], no("Nothing is written here.")),
                rule("blind", "/blind/**", &[Method::GET], no("Nothing is read here.")),
                rule("open", "/**", &[], public()),
            ]);
        })
        .await;
        let sent = |line: &'static str, fields: String| {
            let world = &world;
            async move { world.ask(line, &fields, "").await }
        };
        for (destination, written) in [
            ("https://app.example/b%20c?v=1", "http://app.example/b%20c?v=1"),
            ("https://APP.example:443/%62", "http://app.example/b"),
            ("/b", "http://app.example/b"),
            ("/b#/../vault/x", "http://app.example/b"),
            ("http://app.example/b", "http://app.example/b"),
        ] {
            let answer = sent("MOVE /a", format!("Destination: {destination}\r\n")).await;
            assert_eq!(answer.status, 200, "{destination}: {}", answer.text());
            assert_eq!(world.app.last().values("destination"), [written]);
        }
        let carried = world.app.seen().len();
        for (line, destination, also) in [
            ("MOVE /a", "https://app.example/vault/x", ""),
            ("COPY /a", "/vault/x", ""),
            ("COPY /a", "/VAULT/x", ""),
            ("copy /a", "/vault", ""),
            ("COPY /a", "/v%61ult/x", "Overwrite: F\r\n"),
            ("COPY /a", "/read/x", "Overwrite: F\r\n"),
            ("COPY /a", "/keep/x", ""),
            ("COPY /a", "/keep/x", "Overwrite: T\r\n"),
            ("COPY /a", "/keep/x", "Overwrite: F\r\nOverwrite: T\r\n"),
            ("POST /a?_method=MOVE", "/vault/x", ""),
            // A MOVE deletes what stands at its own path, and both read it.
            ("MOVE /keep/x", "/b", ""),
            ("Move /keep/x", "/b", "Overwrite: F\r\n"),
            ("POST /keep/x?_method=MOVE", "/b", ""),
            ("COPY /blind/x", "/b", ""),
        ] {
            let answer = sent(line, format!("Destination: {destination}\r\n{also}")).await;
            assert_eq!(answer.status, 403, "{line} to {destination}: {}", answer.text());
        }
        for destination in [
            "https://other.example/b",
            "//other.example/b",
            "/vault/../b",
            "/b/..%2fvault/x",
            "/b/%2e%2e/vault/x",
            "b",
            "*",
            "",
            "ftp://app.example/b",
            "https://u@app.example/b",
            "https://app.example:444/b",
            "/b\r\nDestination: /c",
        ] {
            let answer = sent("MOVE /a", format!("Destination: {destination}\r\n")).await;
            assert_eq!(answer.status, 400, "{destination:?}: {}", answer.text());
            assert_eq!(answer.json()["type"], "urn:stepgate:problem:destination");
        }
        assert_eq!(world.app.seen().len(), carried, "none of these reached the app");
        assert_eq!(sent("COPY /a", "Destination: /keep/x\r\nOverwrite: F\r\n".into()).await.status, 200);
        assert_eq!(sent("COPY /keep/x", "Destination: /b\r\n".into()).await.status, 200);
        // What was judged is what the app is told: nothing of it is named away.
        for connection in ["overwrite", "close, Overwrite, destination"] {
            let fields = format!("Destination: /keep/x\r\nOverwrite: F\r\nConnection: {connection}\r\n");
            assert_eq!(sent("COPY /a", fields).await.status, 200);
            let seen = world.app.last();
            assert_eq!(seen.values("overwrite"), ["F"], "{connection}");
            assert_eq!(seen.values("destination"), ["http://app.example/keep/x"], "{connection}");
        }
        assert_eq!(
            sent("PUT /a", "Destination: somewhere else\r\n".into()).await.status,
            200,
            "another program's word"
        );
    });
}

#[test]
fn a_shadow_rule_is_counted_and_stands_in_nobodys_way() {
    story(async {
        let deny = Outcome::Deny { sentence: "Closed.".into() };
        let closed = Rule { shadow: true, ..rule("closed", "/pub/new/**", &[], deny) };
        let rules = vec![closed, rule("open", "/pub/**", &[], public())];
        let world = World::of(App::start(|_| ok("the app")).await, |route| route.policy = policy(rules)).await;
        for path in ["/pub/new/a", "/pub/NEW/a", "/pub/old"] {
            assert_eq!(world.get(path, "").await.status, 200, "{path}");
        }
        let counted = "stepgate_shadow_decisions_total{app=\"wiki\",enforced=\"allow\",shadow=\"deny\"} 2";
        assert!(world.metrics.render().contains(counted), "{}", world.metrics.render());
    });
}
