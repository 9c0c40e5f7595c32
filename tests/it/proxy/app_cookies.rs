//! Whose an app's cookies are: of the session that received them, and of nobody after it (S-COOK-5).

use stepgate::domain::route::{AppCookies, AppName, Route};

use tokio::io::AsyncWriteExt;

use super::world::{Answer, App, HOST, Person, Reply, World, story};

/// An app that sets what the request asks it to: `X-Set: a=1 | b=2; HttpOnly`.
async fn world(cookies: AppCookies) -> World {
    let app = App::start(|seen| {
        let set = seen.values("x-set").join("");
        let fields: String = set.split('|').map(|one| format!("Set-Cookie: {}\r\n", one.trim())).collect();
        let fields = if set.is_empty() { String::new() } else { fields };
        Reply::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok"))
    })
    .await;
    World::of(app, |route| route.app_cookies = cookies).await
}

async fn sealing() -> World {
    world(AppCookies::default()).await
}

/// What the browser keeps of an answer: `name=value` of each cookie.
fn kept(answer: &Answer) -> Vec<String> {
    answer.values("set-cookie").iter().map(|v| v.split(';').next().unwrap().to_owned()).collect()
}

impl World {
    async fn set(&self, person: Option<&Person>, set: &str) -> Answer {
        let ours = person.map(|p| format!("Cookie: {}\r\n", p.cookie)).unwrap_or_default();
        self.get("/pub/x", &format!("{ours}X-Set: {set}\r\n")).await
    }

    /// The Cookie field that the app sees when the browser of `person` shows `jar` as well.
    async fn shows(&self, person: Option<&Person>, jar: &str) -> Option<String> {
        let ours = person.map(|p| format!("{}; ", p.cookie)).unwrap_or_default();
        let answer = self.get("/pub/x", &format!("Cookie: {ours}{jar}\r\n")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.app.last().values("cookie").first().map(|v| (*v).to_owned())
    }
}

#[test]
fn s_cook_5_the_next_person_at_the_browser_does_not_inherit_the_apps_session() {
    story(async {
        let world = sealing().await;
        let ann = world.signs_in("ann").await;
        let answer =
            world.set(Some(&ann), "PHPSESSID=anns-secret; path=/ | app=\"a b, c=\\d\"; HttpOnly; Path=/x").await;
        let jar = kept(&answer).join("; ");
        assert!(!jar.contains("anns-secret"), "{jar}");
        assert!(answer.values("set-cookie")[1].ends_with("; HttpOnly; Path=/x"), "the attributes are the app's");
        let seen = world.shows(Some(&ann), &jar).await;
        assert_eq!(seen.as_deref(), Some("PHPSESSID=anns-secret; app=\"a b, c=\\d\""), "byte by byte");

        world.ends(&ann).await;
        assert_eq!(world.shows(None, &jar).await, None, "nobody is signed in");
        let bob = world.signs_in("bob").await;
        assert_eq!(world.shows(Some(&bob), &jar).await, None);
        assert_eq!(
            world.shows(Some(&bob), &format!("theme=dark; {jar}; lang=de")).await.unwrap(),
            "theme=dark; lang=de"
        );
        let again = world.signs_in("cy").await;
        assert_eq!(world.shows(Some(&again), &jar).await, None);
        assert!(
            world.metrics.render().contains("cookies_of_others_total{app=\"wiki\"} 8"),
            "{}",
            world.metrics.render()
        );
    });
}

#[test]
fn s_cook_5_a_cookie_from_before_the_sign_in_is_dropped_and_one_that_was_planted_too() {
    story(async {
        let world = sealing().await;
        let jar = kept(&world.set(None, "shop=visitor; HttpOnly").await).join("; ");
        assert_eq!(world.shows(None, &jar).await.as_deref(), Some("shop=visitor"), "a visitor keeps a basket");
        let ann = world.signs_in("ann").await;
        assert_eq!(world.shows(Some(&ann), &jar).await, None, "and does not take it along");
        for planted in [
            "PHPSESSID=evil",
            "phpsessid=evil",
            "JSESSIONID=evil",
            "ASPSESSIONIDQQABCDEF=evil",
            "ASP.NET_SessionId=evil",
            "connect.sid=s%3Aevil",
            "=PHPSESSID=evil",
            "x=1,PHPSESSID=evil",
            "PHPSESSID%20=evil",
            "shop=evil",
            "SHOP=evil",
        ] {
            assert_eq!(world.shows(Some(&ann), planted).await, None, "{planted}");
            assert_eq!(world.shows(None, planted).await, None, "{planted}");
        }
    });
}

#[test]
fn s_cook_5_a_sealed_value_opens_under_its_own_name_and_unchanged() {
    story(async {
        let world = sealing().await;
        let ann = world.signs_in("ann").await;
        let jar = kept(&world.set(Some(&ann), "sid=1; HttpOnly").await).join("; ");
        let value = jar.strip_prefix("sid=").unwrap();
        let mut other = value.to_owned();
        let last = other.pop().unwrap();
        other.push(if last == 'A' { 'Q' } else { 'A' });
        for wrong in [format!("role={value}"), format!("sid={other}"), "sid=~sg1.".into(), "sid=~sg2.".into()] {
            assert_eq!(world.shows(Some(&ann), &wrong).await, None, "{wrong}");
        }
        let new = kept(&world.set(Some(&ann), "sid=2; HttpOnly; Path=/a").await).join("; ");
        let both = world.shows(Some(&ann), &format!("{new}; {jar}")).await;
        assert_eq!(both.as_deref(), Some("sid=2; sid=1"), "two of one name keep their order");
    });
}

/// The lines of the corpus with a name put in, as bytes.
fn planted(name: &str) -> Vec<Vec<u8>> {
    let lines = include_str!("../../corpus/cookies/planted.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| unescaped(&line.replace("NAME", name))).collect()
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut parts = line.split('\\');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    while let Some(part) = parts.next() {
        match part.strip_prefix('x').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok()) {
            Some(byte) => out.extend([&[byte], &part.as_bytes()[3..]].concat()),
            None => {
                out.push(b'\\');
                out.extend_from_slice(parts.next().unwrap().as_bytes());
            }
        }
    }
    out
}

#[test]
fn s_cook_5_a_planted_session_is_dropped_in_every_spelling_that_a_server_reads() {
    story(async {
        let world = sealing().await;
        let ann = world.signs_in("ann").await;
        world.set(Some(&ann), "My.App=1; HttpOnly").await;
        for name in ["PHPSESSID", "ci_session", "ci session", "connect.sid", "sessionid", "My.App", "my app", "my[app"]
        {
            // Blanks are `_` to PHP only, which knows no other beginning of a cookie than a semicolon.
            let all = planted(name);
            let lines = if name.contains([' ', '[']) { &all[..3] } else { &all[..] };
            for line in lines {
                let head = format!("GET /pub/x HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}; lang=de; ", ann.cookie);
                let mut client = world.connect().await;
                client.stream.write_all(&[head.as_bytes(), line, b"\r\n\r\n"].concat()).await.unwrap();
                assert_eq!(client.answer(true).await.status, 200);
                let seen = world.app.last().values("cookie").join("|");
                assert_eq!(seen, "lang=de", "{}", String::from_utf8_lossy(line));
            }
        }
        for innocent in [
            "last=/page?sessionid=5&PHPSESSID=6",
            "prefs={\"sessionid\":\"dark\"}",
            "a=PHPSESSID",
            "xsessionid=1",
            "theme=dark and light",
        ] {
            assert_eq!(world.shows(Some(&ann), innocent).await.as_deref(), Some(innocent));
        }
    });
}

#[test]
fn s_cook_5_a_shared_domain_opens_only_for_apps_that_list_it() {
    story(async {
        let world = sealing().await;
        let host = HOST.split(':').next().unwrap();
        world.reload(|route| route.cookie_domains = vec!["example".into(), "other.example".into()]);
        let ann = world.signs_in("ann").await;
        let set = format!("own=1; HttpOnly; Domain={host} | all=2; HttpOnly; Domain=.Example");
        let jar = kept(&world.set(Some(&ann), &set).await).join("; ");
        assert_eq!(world.shows(Some(&ann), &jar).await.as_deref(), Some("own=1; all=2"));
        let is_another = |route: &mut Route, domains: &[&str]| {
            route.app = AppName::parse("another").unwrap();
            route.cookie_domains = domains.iter().map(|d| (*d).to_owned()).collect();
        };
        world.reload(|route| is_another(route, &[]));
        assert_eq!(world.shows(Some(&ann), &jar).await, None);
        world.reload(|route| is_another(route, &["other.example"]));
        assert_eq!(world.shows(Some(&ann), &jar).await, None, "not by another domain either");
        world.reload(|route| is_another(route, &[".example"]));
        assert_eq!(world.shows(Some(&ann), &jar).await.as_deref(), Some("all=2"), "and the app's own stays its own");

        // The app whose host is the domain itself shares where both list it.
        world.reload(|route| route.cookie_domains = vec![host.into()]);
        let jar = kept(&world.set(Some(&ann), &format!("own=3; HttpOnly; Domain={host}")).await).join("; ");
        assert_eq!(world.shows(Some(&ann), &jar).await.as_deref(), Some("own=3"));
        world.reload(|route| is_another(route, &[host]));
        assert_eq!(world.shows(Some(&ann), &jar).await.as_deref(), Some("own=3"));
        world.reload(|route| is_another(route, &["example"]));
        assert_eq!(world.shows(Some(&ann), &jar).await, None);
    });
}

#[test]
fn s_cook_5_a_name_that_was_bound_once_is_bound_without_httponly_too() {
    story(async {
        let world = sealing().await;
        let ann = world.signs_in("ann").await;
        let first = kept(&world.set(Some(&ann), "state=1; HttpOnly").await);
        let second = kept(&world.set(Some(&ann), "state=2").await);
        assert!(first[0].contains("=~sg1.") && second[0].contains("=~sg1."));
        assert_eq!(world.shows(Some(&ann), &second[0]).await.as_deref(), Some("state=2"));
    });
}

#[test]
fn s_cook_5_what_scripts_read_stays_as_the_app_wrote_it() {
    story(async {
        let world = sealing().await;
        let ann = world.signs_in("ann").await;
        let set = "theme=dark | csrftoken=abc; Path=/ | XSRF-TOKEN=x; Secure | lesson=3 | gone=; Max-Age=0; HttpOnly | flag; HttpOnly";
        let answer = world.set(Some(&ann), set).await;
        assert_eq!(answer.values("set-cookie").join(" | "), set);
        assert_eq!(
            world.shows(Some(&ann), "theme=dark; csrftoken=abc").await.as_deref(),
            Some("theme=dark; csrftoken=abc")
        );
        let bound = "appsid=1 | auth=2 | wiki_session=3 | csrf=4; HttpOnly | LtpaToken2=5 | token=6 | my.jwt=7 | sso-id=8 \
                     | MYSSO=9";
        let bound = kept(&world.set(Some(&ann), bound).await);
        assert_eq!(bound.len(), 9);
        assert!(bound.iter().all(|cookie| cookie.contains("=~sg1.")), "{bound:?}");
    });
}

#[test]
fn s_cook_5_a_value_too_long_to_be_sealed_is_bound_by_a_tag() {
    story(async {
        let world = sealing().await;
        let ann = world.signs_in("ann").await;
        // Frameworks cut what is long into pieces of about 4050 bytes with name and attributes.
        let long = "x".repeat(3_980);
        let answer = world.set(Some(&ann), &format!("pieceC1={long}; HttpOnly; Path=/")).await;
        let jar = kept(&answer).join("; ");
        assert!(jar.len() <= 4096 && jar.starts_with("pieceC1=~sg2."), "{}", jar.len());
        assert_eq!(world.shows(Some(&ann), &jar).await.unwrap(), format!("pieceC1={long}"));
        let bob = world.signs_in("bob").await;
        assert_eq!(world.shows(Some(&bob), &jar).await, None);
        assert_eq!(world.shows(Some(&bob), &format!("pieceC1={long}")).await, None, "nor cut off its tag");

        let set = |len: usize| format!("lone={}; HttpOnly", "x".repeat(len));
        assert_eq!(kept(&world.set(Some(&ann), &set(4044)).await)[0].len(), 4097, "name, `=`, and what fits");
        let answer = world.set(Some(&ann), &set(4045)).await;
        assert!(answer.values("set-cookie").is_empty(), "what cannot be bound would be the next person's too");
    });
}

#[test]
fn the_file_says_which_cookies_are_bound() {
    story(async {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let world =
            world(AppCookies::Seal { seal: names(&["basket", "u_*"]), pass: names(&["auth", "JSESSIONID"]) }).await;
        let ann = world.signs_in("ann").await;
        let set = kept(&world.set(Some(&ann), "basket=1 | u_1=1 | auth=1; HttpOnly | JSESSIONID=1; HttpOnly").await);
        assert!(set[0].contains("=~sg1.") && set[1].contains("=~sg1."), "{set:?}");
        assert_eq!(set[2..], ["auth=1", "JSESSIONID=1"]);
        assert_eq!(world.shows(Some(&ann), "basket=raw; auth=1; JSESSIONID=1").await.unwrap(), "auth=1; JSESSIONID=1");

        world.reload(|route| route.app_cookies = AppCookies::None);
        let set = kept(&world.set(Some(&ann), "PHPSESSID=1; HttpOnly").await);
        assert_eq!(set, ["PHPSESSID=1"]);
        assert_eq!(world.shows(Some(&ann), "PHPSESSID=1").await.unwrap(), "PHPSESSID=1");
    });
}

#[test]
fn s_cook_5_on_one_connection_the_next_person_gets_nothing_remembered() {
    story(async {
        let world = sealing().await;
        let (ann, bob) = (world.signs_in("ann").await, world.signs_in("bob").await);
        let jar = kept(&world.set(Some(&ann), "sid=1; HttpOnly").await).join("; ");
        let mut client = world.connect().await;
        for (person, expected) in [(&ann, Some("sid=1")), (&ann, Some("sid=1")), (&bob, None), (&ann, Some("sid=1"))] {
            let cookie = &person.cookie;
            client.write(&format!("GET / HTTP/1.1\r\nHost: app.example\r\nCookie: {cookie}; {jar}\r\n\r\n")).await;
            assert_eq!(client.answer(true).await.status, 200);
            assert_eq!(world.app.last().values("cookie").first().copied(), expected);
        }
    });
}
