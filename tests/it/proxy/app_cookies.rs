//! Whose an app's cookies are: of the session that received them, and of nobody after it (S-COOK-5).

use stepgate::domain::route::AppCookies;

use super::world::{Answer, App, Person, Reply, World, story};

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
