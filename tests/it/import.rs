//! `stepgate import`: what people and rules of another system become, and what it never does.

use std::path::Path;

use stepgate::base::clock::Timestamp;
use stepgate::base::net::ClientIp;
use stepgate::config::expect::{Question, ask, nowhere, somebody};
use stepgate::config::{Purpose, Snapshot, from_text};
use stepgate::domain::authn::Authn;
use stepgate::domain::policy::Decision;
use stepgate::domain::policy::content::Content;
use stepgate::domain::user::{GroupName, UserName};

use crate::cli::{Desk, GOOD};

/// Of "correct horse battery", by Python's bcrypt and argon2-cffi.
const BCRYPT: &str = "$2b$05$sFK8hRs3Lowtj5.zEGcAvevyZ3Nd2fMpomAanv6A5z1KAFXhQYbCC";
const ARGON2ID: &str =
    "$argon2id$v=19$m=8192,t=3,p=4$BSFCGQcUPDETVN8gHw8yUw$FfshKaXRH+d87f2LnJtLw1FQUSK+YV9tkeqFf4+qhm4";

// --- people

#[test]
fn an_htpasswd_file_is_shown_first_and_applied_once() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    desk.write(
        "people",
        &format!(
            "# by htpasswd -B\nmia:{BCRYPT}\nann:{BCRYPT}\nold:$apr1$x$y\nsha:{{SHA}}Dvs/L78raajL4jEAHPkwflQXJzI=\nMia:{BCRYPT}\n\
             b,d:{BCRYPT}\n"
        ),
    );
    let before = desk.ok("user list");
    let shown = desk.run("import htpasswd people");
    assert_eq!(shown.code, 1, "somebody is left out: {}{}", shown.out, shown.err);
    for part in [
        "bcrypt:5",
        "signs in as before",
        "there is an account of this name",
        "apr1",
        "SHA-1",
        "sign-up link",
        "letter case",
        "U+002C",
        "3 would be added: 1 with their old password, 2 by a sign-up link; 2 left out, 1 there already.",
        "Nothing was written",
    ] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    assert!(shown.err.contains("every attempt to sign in costs the work of bcrypt:5"), "{}", shown.err);
    assert!(!shown.out.contains(BCRYPT), "no hash is shown");
    assert_eq!(desk.ok("user list"), before, "nothing was written");

    let applied = desk.run("import htpasswd people --apply");
    let links = applied.out.lines().filter(|line| line.contains("/.stepgate/enroll?code=")).count();
    assert_eq!(links, 2, "{}{}", applied.out, applied.err);
    assert!(desk.ok("user show mia").contains("password    set, bcrypt:5 until the next sign-in"));
    assert!(desk.ok("user show old").contains("password    not set"));
    assert!(desk.ok("audit verify").contains("whole"));
    assert!(desk.ok("audit tail").contains("An account was imported."));

    let again = desk.run("import htpasswd people --apply");
    // Who was left out still is; of the others there is nothing to do.
    assert_eq!(again.code, 1);
    assert!(again.out.contains("0 were added") && again.out.contains("4 there already"), "{}", again.out);
}

#[test]
fn a_second_run_has_nothing_to_do_and_says_so() {
    let desk = Desk::with(GOOD);
    desk.write("people", &format!("mia:{BCRYPT}\nnoa:{BCRYPT}\n"));
    assert_eq!(desk.run("import htpasswd people --apply").code, 0);
    for line in ["import htpasswd people", "import htpasswd people --apply"] {
        let again = desk.run(line);
        assert_eq!(again.code, 0, "{}{}", again.out, again.err);
        assert!(again.out.contains("Nothing to do: 2 of 2 there already."), "{}", again.out);
    }
    // Only the authenticators are new; and then they are not.
    let users = format!("users:\n  mia:\n    displayname: Mia\n    password: '{BCRYPT}'\n");
    desk.write("users.yml", &users);
    desk.write("totp.txt", &format!("otpauth://totp/Authelia:mia?secret={SEED}&digits=6&period=30&algorithm=SHA1\n"));
    let said = desk.run("import authelia users.yml totp.txt --apply");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("1 authenticator was added"), "{}", said.out);
    assert!(desk.ok("factor list mia").contains("Authelia"));
    for line in ["import authelia users.yml totp.txt --apply", "import authelia totp.txt --apply"] {
        let again = desk.run(line);
        assert!(again.code == 0 && again.out.contains("Nothing to do: 1 of 1"), "{line}: {}{}", again.out, again.err);
    }
}

const USERS: &str = "users:
  john:
    displayname: 'John Doe'
    password: 'ARGON2ID'
    email: john@example.com
    groups: [admins, dev]
  harry:
    displayname: Harry
    password: 'BCRYPT'
    disabled: true
  eve:
    displayname: Eve
    password: '$plaintext$hunter22'
    groups: []
";

/// 20 bytes as Authelia keeps them.
const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

#[test]
fn people_of_authelia_come_with_groups_address_state_and_authenticator() {
    let uri = format!("otpauth://totp/Example:john?algorithm=SHA512&digits=8&issuer=Example&period=60&secret={SEED}\n");
    let yaml = format!(
        "totp_configurations:\n- created_at: 2024-01-01T00:00:00Z\n  username: john\n  issuer: Example\n  algorithm: SHA512\n\
         \x20 digits: 8\n  period: 60\n  secret: {}\n",
        data_encoding::BASE64.encode(SEED.as_bytes())
    );
    let csv = format!("issuer,username,algorithm,digits,period,secret\nExample,john,SHA512,8,60,{SEED}\n");
    for (name, export) in [("totp.txt", uri), ("totp.yml", yaml), ("totp.csv", csv)] {
        let desk = Desk::with(GOOD);
        desk.write("users.yml", &USERS.replace("ARGON2ID", ARGON2ID).replace("BCRYPT", BCRYPT));
        desk.write(name, &export);
        let said = desk.run(&format!("import authelia users.yml {name} --apply"));
        assert_eq!(said.code, 0, "{name}: {}{}", said.out, said.err);
        assert!(said.out.contains("8 digits") && said.out.contains("with the same authenticator"), "{}", said.out);
        let john = desk.ok("user show john");
        for part in ["John Doe", "john@example.com", "admins, dev", "argon2id:m=8192,t=3,p=4,l=32", "totp \"Example\""]
        {
            assert!(john.contains(part), "{name}: {part}: {john}");
        }
        assert!(desk.ok("user show harry").contains("disabled"));
        assert!(desk.ok("user show eve").contains("not set"), "a password in clear is not taken over");
        assert!(!said.out.contains("hunter22") && !said.out.contains(SEED));
    }
}

#[test]
fn an_authenticator_that_comes_later_is_added_to_whoever_never_had_one() {
    let desk = Desk::with(GOOD);
    desk.add("john");
    desk.add("mia");
    desk.ok("factor add mia totp");
    let line = |name: &str| format!("otpauth://totp/Authelia:{name}?secret={SEED}&digits=6&period=30&algorithm=SHA1\n");
    desk.write("totp.txt", &(line("john") + &line("mia") + &line("nobody")));
    let said = desk.run("import authelia totp.txt --apply");
    for part in ["the authenticator is added", "has had a second factor", "no account has this name"] {
        assert!(said.out.contains(part), "{part}: {}{}", said.out, said.err);
    }
    assert!(desk.ok("factor list john").contains("Authelia"));
    assert!(!desk.ok("factor list mia").contains("Authelia"));
}

// --- rules

/// What the gate says, asked as somebody with groups who has shown only their password, or as nobody.
fn verdict(snapshot: &Snapshot, request: &str, who: &str, from: Option<&str>) -> String {
    let (method, url) = request.split_once(' ').unwrap();
    let (host, path) = url.split_once('/').unwrap();
    let route = snapshot.routes.iter().find(|r| r.hosts.iter().any(|h| h.name() == host)).unwrap();
    let now = Timestamp::from_secs(1_800_000_000);
    let authn = match who.split_once('/') {
        None => Authn::Anonymous,
        Some((name, groups)) => {
            let groups: Vec<GroupName> =
                groups.split(',').filter(|g| !g.is_empty()).map(|g| GroupName::parse(g).unwrap()).collect();
            somebody(&UserName::parse(name).unwrap(), &groups, None, now)
        }
    };
    let client = from.map_or_else(nowhere, |ip| ClientIp::new(ip.parse().unwrap()));
    let (method, target) = (method.parse().unwrap(), format!("/{path}"));
    let question =
        Question { method: &method, target: &target, content: &Content::Nothing, client, authn: &authn, now };
    match ask(route, &question, &mut ()).unwrap() {
        Decision::Allow(_) => "allow".to_owned(),
        Decision::Challenge(challenge) => challenge.level.name.to_string(),
        Decision::Deny(_) => "deny".to_owned(),
    }
}

/// The configuration as the command makes it, with what it says beside it.
fn converted(desk: &Desk, line: &str) -> (Snapshot, String, String) {
    let said = desk.run(line);
    assert!(matches!(said.code, 0 | 1), "{}", said.err);
    let (snapshot, _) = from_text(&said.out, Path::new("."), Purpose::Check)
        .unwrap_or_else(|faults| panic!("{faults:#?}\n{}\n{}", said.out, said.err));
    (snapshot, said.out, said.err)
}

const CONTROL: &str = r#"
theme: dark
session:
  inactivity: 5 minutes
  cookies: [{ domain: example.com, authelia_url: 'https://login.example.com', expiration: 1 hour }]
totp: { issuer: Example, period: 30, skew: 1 }
definitions: { network: { internal: [10.10.0.0/16, 192.168.2.0/24], VPN: 10.9.0.0/16 } }
access_control:
  default_policy: deny
  rules:
    - { domain: [home.example.com, public.example.com], policy: bypass }
    - { domain: secure.example.com, policy: bypass, methods: [OPTIONS] }
    - { domain: secure.example.com, policy: one_factor, networks: [internal, VPN, 10.0.0.1] }
    - { domain: secure.example.com, policy: two_factor }
    - { domain: 'mx2.mail.example.com', subject: 'group:admins', policy: deny }
    - { domain: '*.example.com', subject: ['group:admins', 'group:moderators'], policy: two_factor }
    - { domain: dev.example.com, resources: '^/groups/dev/.*$', subject: 'group:dev', policy: two_factor }
    - { domain: dev.example.com, resources: ['^/users/john/.*$'], subject: [['user:john']], policy: one_factor }
    - { domain: dev.example.com, resources: '^/api([/?].*)?$', policy: bypass }
    - { domain: dev.example.com, query: [[{ operator: equal, key: show, value: all }], [{ key: x, value: '1' }, { key: y, value: '2' }]], policy: one_factor }
    - { domain: '{user}.home.example.com', policy: one_factor }
    - { domain_regex: '^(?P<Group>\w+)\.team\.example\.com$', policy: one_factor }
    - { domain: singlefactor.example.com, policy: one_factor }
"#;

#[test]
fn authelias_rules_decide_here_as_they_did_there() {
    let desk = Desk::with(GOOD);
    desk.write("configuration.yml", CONTROL);
    let line = "import authelia configuration.yml --app john.home.example.com --app sales.team.example.com --app mx2.mail.example.com=http://10.0.0.9:80";
    let (snapshot, text, said) = converted(&desk, line);
    for (request, who, from, expected) in [
        ("GET public.example.com/x", "-", None, "allow"),
        ("OPTIONS secure.example.com/", "-", None, "allow"),
        ("GET secure.example.com/", "-", None, "mfa"),
        ("GET secure.example.com/", "john/", None, "mfa"),
        ("GET secure.example.com/", "john/", Some("10.10.3.4"), "allow"),
        ("GET secure.example.com/", "john/", Some("10.0.0.1"), "allow"),
        ("GET secure.example.com/", "-", Some("10.9.3.4"), "password"),
        ("GET mx2.mail.example.com/", "john/admins", None, "deny"),
        ("GET mx2.mail.example.com/", "john/moderators", None, "mfa"),
        ("GET mx2.mail.example.com/", "john/", None, "deny"),
        ("GET mx2.mail.example.com/", "-", None, "mfa"),
        ("GET dev.example.com/groups/dev/a", "bob/dev", None, "mfa"),
        ("GET dev.example.com/groups/dev/a", "bob/", None, "deny"),
        ("GET dev.example.com/users/john/a", "john/", None, "allow"),
        ("GET dev.example.com/users/john/a", "bob/", None, "deny"),
        ("GET dev.example.com/api", "bob/", None, "allow"),
        ("GET dev.example.com/api/x", "bob/", None, "allow"),
        ("GET dev.example.com/apix", "bob/", None, "deny"),
        ("GET dev.example.com/?show=all", "bob/", None, "allow"),
        ("GET dev.example.com/?x=1&y=2", "bob/", None, "allow"),
        ("GET dev.example.com/?x=1", "bob/", None, "deny"),
        ("GET john.home.example.com/", "john/", None, "allow"),
        ("GET john.home.example.com/", "bob/", None, "deny"),
        ("GET sales.team.example.com/", "bob/sales", None, "allow"),
        ("GET sales.team.example.com/", "bob/dev", None, "deny"),
        ("GET singlefactor.example.com/", "bob/", None, "allow"),
    ] {
        assert_eq!(verdict(&snapshot, request, who, from), expected, "{request} as {who} from {from:?}\n{text}");
    }
    assert_eq!(snapshot.portal.as_ref().map(|p| p.host.to_string()).as_deref(), Some("login.example.com"));
    assert_eq!(snapshot.title, "Example");
    assert_eq!((snapshot.sessions.idle.as_secs(), snapshot.sessions.max.as_secs()), (300, 3600));
    for part in ["BEFORE", "as before", "bypass: domain [home.example.com, public.example.com]", "require: none"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(text.contains("http://10.0.0.9:80") && text.contains("http://secure.invalid"));
}

/// Each of these says what ours cannot say. No request may need less here than it did there.
#[test]
fn a_rule_that_cannot_be_said_here_never_makes_anything_weaker() {
    // The rules, a request that none of the conditions that ours can say excludes, and the least that may be asked of a stranger.
    for (rules, request, expected, noted) in [
        // Both groups at once, and nothing below: who is not named was denied.
        (
            "- { domain: a.example.com, subject: [['group:x', 'group:y']], policy: one_factor }",
            "GET a.example.com/",
            "deny",
            "all of group:x, group:y at once",
        ),
        // It asked for more than what is below: it asks all for it.
        (
            "- { domain: a.example.com, query: [[{ operator: present, key: token }]], policy: two_factor }\n    - { domain: a.example.com, policy: bypass }",
            "GET a.example.com/",
            "mfa",
            "by `present`",
        ),
        (
            "- { domain: a.example.com, resources: '^/x\\?secret=.*$', policy: deny }\n    - { domain: a.example.com, policy: bypass }",
            "GET a.example.com/x",
            "deny",
            "in the query",
        ),
        // More than one and less than another: nobody can say which, so it denies.
        (
            "- { domain: a.example.com, resources: '\\?a', policy: one_factor }\n    - { domain: a.example.com, resources: '^/b$', policy: bypass }\n    - { domain: a.example.com, policy: two_factor }",
            "GET a.example.com/",
            "deny",
            "until somebody writes what is meant",
        ),
        // What is left out below a rule is not what it falls to.
        (
            "- { domain: a.example.com, networks: [nowhere], policy: one_factor }\n    - { domain: a.example.com, networks: [nowhere], policy: bypass }\n    - { domain: a.example.com, policy: two_factor }",
            "GET a.example.com/",
            "mfa",
            "left out: what holds in its place",
        ),
        // Strangers were asked to sign in by the rule for some.
        (
            "- { domain: a.example.com, subject: 'group:x', policy: two_factor }\n    - { domain: a.example.com, policy: bypass }",
            "GET a.example.com/",
            "password",
            "asks strangers to sign in first",
        ),
        // An opening one is left out.
        (
            "- { domain: a.example.com, resources: '\\.css$', policy: bypass }\n    - { domain: a.example.com, policy: two_factor }",
            "GET a.example.com/account.php/x.css",
            "mfa",
            "under any directory",
        ),
        (
            "- { domain: a.example.com, networks: ['{{ env \"NET\" }}'], policy: bypass }\n    - { domain: a.example.com, policy: two_factor }",
            "GET a.example.com/",
            "mfa",
            "which is none",
        ),
    ] {
        let desk = Desk::with(GOOD);
        desk.write("c.yml", &format!("access_control:\n  rules:\n    {rules}\n"));
        let (snapshot, text, _) = converted(&desk, "import authelia c.yml");
        assert_eq!(verdict(&snapshot, request, "-", None), expected, "{rules}\n{text}");
        assert!(text.lines().any(|line| line.trim_start().starts_with('#') && line.contains(noted)), "{noted}: {text}");
    }
}

#[test]
fn an_import_writes_files_that_check_takes_and_never_over_a_file() {
    let desk = Desk::with(GOOD);
    desk.write("configuration.yml", CONTROL);
    let said = desk.run("import authelia configuration.yml --out new");
    assert!(
        said.out.contains("new/stepgate.yaml") && said.out.contains("new/apps.d/secure.yaml"),
        "{}{}",
        said.out,
        said.err
    );
    let checked = desk.run("check --config new/stepgate.yaml");
    assert_eq!(checked.code, 0, "{}", checked.out);
    desk.write("new/apps.d/secure.yaml", "mine");
    std::fs::remove_file(desk.path("new/stepgate.yaml")).unwrap();
    let again = desk.run("import authelia configuration.yml --out new");
    assert!(again.code == 1 && again.err.contains("never writes over a file"), "{}", again.err);
    assert!(!desk.path("new/stepgate.yaml").exists(), "none of them is written");
    assert_eq!(std::fs::read_to_string(desk.path("new/apps.d/secure.yaml")).unwrap(), "mine");
}

#[test]
fn a_wildcard_alone_names_no_host_and_says_so() {
    let desk = Desk::with(GOOD);
    desk.write("c.yml", "access_control:\n  rules:\n    - { domain: '*.example.com', policy: two_factor }\n");
    let said = desk.run("import authelia c.yml");
    assert!(said.code == 1 && said.err.contains("--app HOST"), "{}", said.err);
    assert!(
        said.out.contains("# c.yml:3: rule 1 (two_factor) is for *.example.com, which names no host"),
        "{}",
        said.out
    );
}

#[test]
fn oauth2_proxy_keeps_its_upstream_its_open_routes_and_its_groups() {
    let desk = Desk::with(GOOD);
    desk.write(
        "o.cfg",
        "http_address=\"0.0.0.0:4180\"\nredirect_url = \"https://app.example.com/oauth2/callback\"\n\
         upstreams = [ \"http://127.0.0.1:8080/\", \"file:///var/www/#/static/\" ]\nemail_domains = [\"*\"]\ncookie_expire=\"12h\"\n\
         allowed_groups = [\"staff\"]\nskip_auth_preflight = \"true\"\ntrusted_ips = [\"10.1.0.0/16\"]\nset_xauthrequest = true\n\
         skip_auth_routes = [ \"GET=^/probe$\", \"^/metrics\", \"POST!=^/api\", \"\\\\.css$\" ]\nhtpasswd_file = \"/etc/htpasswd\"\n\
         client_secret = \"s3cr3t\"\n",
    );
    let (snapshot, text, said) = converted(&desk, "import oauth2-proxy o.cfg");
    for (request, who, from, expected) in [
        ("GET app.example.com/probe", "-", None, "allow"),
        ("POST app.example.com/probe", "-", None, "mfa"),
        ("GET app.example.com/metrics/a", "-", None, "allow"),
        ("GET app.example.com/api", "-", None, "mfa"),
        ("GET app.example.com/a.css", "-", None, "mfa"),
        ("OPTIONS app.example.com/", "-", None, "allow"),
        ("GET app.example.com/", "-", Some("10.1.2.3"), "allow"),
        ("GET app.example.com/", "ann/staff", None, "mfa"),
        ("GET app.example.com/", "ann/", None, "deny"),
    ] {
        assert_eq!(verdict(&snapshot, request, who, from), expected, "{request} as {who} from {from:?}\n{text}");
    }
    assert!(!text.contains("s3cr3t") && !said.contains("s3cr3t"));
    for part in
        ["file:///var/www/", "stepgate import htpasswd /etc/htpasswd", "max: 12h", "x-auth-request", "client_secret"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    desk.write(
        "alpha.yaml",
        "server: { bindAddress: '0.0.0.0:4180' }\nupstreamConfig:\n  upstreams: [{ id: app, path: /, uri: 'http://httpbin' }]\n\
         injectRequestHeaders:\n- { name: X-Forwarded-User, values: [{ claimSource: { claim: user } }] }\nproviders: [{ id: oidc, allowedGroups: [dev] }]\n",
    );
    let (snapshot, text, _) = converted(&desk, "import oauth2-proxy alpha.yaml --host a.example.com");
    assert!(text.contains("X-Forwarded-User: user") && text.contains("group:dev"), "{text}");
    assert_eq!(verdict(&snapshot, "GET a.example.com/", "ann/", None), "deny");
    let unnamed = desk.run("import oauth2-proxy alpha.yaml");
    assert!(unnamed.code == 1 && unnamed.err.contains("--host HOST"), "{}", unnamed.err);
}

#[test]
fn the_table_says_of_a_rule_what_the_file_says() {
    let desk = Desk::with(GOOD);
    desk.write(
        "configuration.yml",
        "access_control:\n  default_policy: deny\n  rules:\n\
         \x20 - { domain: wiki.example.com, policy: two_factor, methods: [GET] }\n\
         \x20 - { domain: wiki.example.com, policy: two_factor, methods: [GET], resources: ['^/x$'] }\n\
         \x20 - { domain: wiki.example.com, policy: two_factor }\n\
         \x20 - { domain: wiki.example.com, policy: one_factor, resources: ['^/y$'] }\n",
    );
    let said = desk.run("import authelia configuration.yml --out new");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let row = |number: &str| said.err.lines().find(|line| line.trim_start().starts_with(number)).unwrap().to_owned();
    assert!(row("2 ").contains("not in the file: authelia-1 above it holds for all of it"), "{}", said.err);
    assert!(row("4 ").contains("never asked: a rule above holds for all of the host"), "{}", said.err);
    let file = std::fs::read_to_string(desk.path("new/apps.d/wiki.yaml")).unwrap();
    assert!(file.contains("# left out: authelia-1 above it holds for all that it does"), "{file}");
    assert!(file.contains("rule 4: one_factor") && file.contains("# never asked: a rule above holds"), "{file}");
    assert!(!file.contains("(line "), "no line of a text that nobody has: {file}");
}

#[test]
fn comments_of_an_oauth2_proxy_import_say_what_is_so() {
    let desk = Desk::with(GOOD);
    let cfg = "redirect_url = \"https://app.example.com/oauth2/callback\"\nupstreams = [\"http://127.0.0.1:8080/\"]\n\
               email_domains = [\"corp.example\"]\nskip_auth_routes = [\"/api/v1\", \"\\\\.css$\"]\n";
    desk.write("o.cfg", cfg);
    let said = desk.run("import oauth2-proxy o.cfg").out;
    assert!(said.contains("every account of this gate may open the app"), "{said}");
    assert!(said.contains("it opens whatever holds this anywhere") && said.contains("begin it with ^"), "{said}");
    assert!(said.contains("it opens what ends so under any directory"), "{said}");
    desk.write("o.cfg", &format!("{cfg}allowed_groups = [\"staff\"]\n"));
    let said = desk.run("import oauth2-proxy o.cfg").out;
    assert!(said.contains("whoever `allow` names may open the app") && !said.contains("every account"), "{said}");
    desk.write(
        "alpha.yaml",
        "injectRequestHeaders:\n- { name: X-Forwarded-User, values: [{ claim: user }] }\n\
         - { name: X-Mail, values: [{ claimSource: { claim: email } }] }\n\
         - { name: X-Key, values: [{ secretSource: { value: aGk= } }] }\n",
    );
    let said = desk.run("import oauth2-proxy alpha.yaml --host app.example.com").out;
    assert!(said.contains("{ X-Forwarded-User: user }, { X-Mail: email }"), "{said}");
    assert!(said.contains("# The header X-Key is left out: it carries no claim."), "{said}");
}
