//! `stepgate explain`: what would the gate do with this request, and why? The same parse and the
//! same `decide()` as on the wire, without a request and without a store.

mod answer;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;

use self::answer::{Answer, circumstances, excepted, rows, sent_to, settle, shadowed};
use super::check::{exit, say, sound_files};
use super::enrolled::Accounts;
use super::user::account;
use super::{Global, Usage};
use crate::app::{self, IfAbsent};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::net::ClientIp;
use crate::base::rng::SystemRng;
use crate::config::expect::{
    AskError, Question, ask, ask_at_both, form_of, never_enrolled, nowhere, shadow_of, somebody,
};
use crate::config::{Snapshot, did_you_mean};
use crate::domain::authn::Authn;
use crate::domain::factor::FactorKind;
use crate::domain::host::HostName;
use crate::domain::method::{self, MethodError, in_capitals};
use crate::domain::policy::destination::Ruling;
use crate::domain::policy::{Content, Media, TraceTable};
use crate::domain::portal;
use crate::domain::posture::Posture;
use crate::domain::route::Route;
use crate::domain::user::{GroupName, UserName, UserStatus};

/// Say what the gate would do with a request, and why.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// GET, POST, ..., in the letters that the client sends.
    method: String,
    /// The whole URL as in a browser; a path is enough where there is one app with one host.
    url: String,
    /// Who asks.
    #[arg(long = "as", value_name = "USER", conflicts_with = "anonymous")]
    user: Option<String>,
    /// Nobody is signed in (the default).
    #[arg(long)]
    anonymous: bool,
    /// Groups of the person; their account's when left out.
    #[arg(long, value_delimiter = ',', requires = "user")]
    groups: Option<Vec<String>>,
    /// What they have shown: just enough for this level, as long ago as it allows. The password when left out.
    #[arg(long, value_name = "LEVEL", requires = "user")]
    at: Option<String>,
    /// They never had a second factor, so that the `grace` of a level is theirs; as their account says when left out.
    #[arg(long, requires = "user")]
    never_enrolled: bool,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    from: Option<std::net::IpAddr>,
    /// The moment; now when left out.
    #[arg(long, value_name = "RFC3339")]
    time: Option<String>,
    /// Where a COPY or MOVE writes to: its Destination, an address or a path. It is taken to replace what is there.
    #[arg(long, value_name = "URL")]
    destination: Option<String>,
    /// The posture of the gate; the one in force when left out, as far as the state can be read.
    #[arg(long, value_name = "POSTURE", value_parser = super::posture::parse)]
    posture: Option<Posture>,
    #[command(flatten)]
    body: BodyArgs,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What the request carries; nothing where none of these is given.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct BodyArgs {
    /// A field of the form that it sends; given again for each of them.
    #[arg(long, value_name = "K=V", value_parser = field)]
    form: Vec<(String, String)>,
    /// The JSON document that it sends.
    #[arg(long, value_name = "TEXT")]
    json_body: Option<String>,
    /// It sends something that no rule can look into, such as a form with a file.
    #[arg(long)]
    unreadable_body: bool,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a field is written NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl BodyArgs {
    /// As the gate would have read it.
    pub(super) fn content(&self) -> Content {
        match &self.json_body {
            Some(text) => Content::read(Media::Json, text.as_bytes()),
            None if self.unreadable_body => Content::Unread,
            None => form_of(self.form.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        }
    }
}

/// Exit 0 when the request would pass, 1 otherwise. Works without any state; only where `--groups` does not say
/// them, the groups of an account come from the store if there is one: then it has to hold an account of that
/// name, and a note tells what that account could not have shown.
pub async fn run(args: ExplainArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = sound_files(global)? else { return Ok(exit(false)) };
    let known = match (&args.user, &args.groups) {
        (Some(name), None) => account_of(&snapshot, name).await?,
        (Some(_), Some(_)) | (None, _) => None,
    };
    let user = known.as_ref().and_then(|known| known.users.first());
    let account = user.map(|user| (user.groups.clone(), user.ever_enrolled));
    let posture = match args.posture {
        Some(posture) => posture,
        None => posture_in_force(&snapshot).await,
    };
    // Whatever it cannot make sense of is in the question.
    let mut answer =
        explain(&args, &snapshot, (account, posture), SystemClock.now()).map_err(|e| Usage(format!("{e:#}")))?;
    if let Some(known) = known {
        answer.notes.extend(cannot_show(&args, &snapshot.under(posture), &answer, &known, SystemClock.now()));
    }
    if args.json {
        say(&format!("{:#}", answer.json()))?;
    } else {
        say(answer.text().trim_end())?;
    }
    Ok(exit(answer.verdict == "allow"))
}

/// `normal` where there is no state to ask. One that does not answer must not keep anybody from an answer.
pub(super) async fn posture_in_force(snapshot: &Snapshot) -> Posture {
    let now = SystemClock.now();
    let asked = async {
        let opened = app::open_state(snapshot, IfAbsent::Refuse, now, &SystemRng).await.ok()?;
        opened.store.posture().await.ok()?.map(|row| row.at(now))
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten().unwrap_or_default()
}

/// How long a state may take to say its posture.
const PATIENCE: Duration = Duration::from_secs(2);

/// One account with what it could show; `None` where there is no store to ask. Nothing is made by asking: a
/// store that is not there yet stays so. A name that nobody has is a mistake in the question.
async fn account_of(snapshot: &Snapshot, name: &str) -> anyhow::Result<Option<Accounts>> {
    let Ok(opened) = app::open_state(snapshot, IfAbsent::Refuse, SystemClock.now(), &SystemRng).await else {
        return Ok(None);
    };
    let user = match account(&opened.store, name).await? {
        Ok(user) => user,
        Err(unknown) => bail!("{unknown}; to ask about somebody without an account, give --groups"),
    };
    let mut kinds: Vec<FactorKind> =
        opened.store.credentials(user.id).await?.iter().filter(|c| c.disabled_at.is_none()).map(|c| c.kind).collect();
    if opened.store.backup_codes(user.id).await?.is_some_and(|set| set.left > 0) {
        kinds.push(FactorKind::BackupCodes);
    }
    if snapshot.codes_by_email() && user.email.is_some() {
        kinds.push(FactorKind::Email);
    }
    let with_password = opened.store.password_hash(user.id).await?.map(|_| user.id).into_iter().collect();
    Ok(Some(Accounts { kinds: HashMap::from([(user.id, kinds)]), users: vec![user], with_password }))
}

/// What the account itself says against the question: the verdict takes what was shown for shown.
fn cannot_show(
    args: &ExplainArgs,
    snapshot: &Snapshot,
    answer: &Answer,
    known: &Accounts,
    now: Timestamp,
) -> Vec<String> {
    // Where nobody is asked who they are, it does not matter what they could say.
    let Some(user) = known.users.first().filter(|_| answer.level.as_deref() != Some("none")) else { return Vec::new() };
    let name = &user.name;
    if user.status != UserStatus::Active {
        return vec![format!("the account of {name} is disabled: nobody can sign in with it")];
    }
    if !known.with_password.contains(&user.id) {
        return vec![format!("{name} has no password yet, and cannot sign in before the sign-up link is used")];
    }
    let mut levels: Vec<&str> = Vec::new();
    for level in [args.at.as_deref(), answer.level.as_deref()].into_iter().flatten() {
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    let unmet = levels.into_iter().filter_map(|level| snapshot.level(level)).filter(|l| !known.meets(user, l, now));
    unmet.map(|l| format!("{name} has enrolled nothing with which `{}` could be shown", l.name)).collect()
}

/// `account` are the groups that the store knows of the person, and whether they ever had a second factor.
fn explain(
    args: &ExplainArgs,
    snapshot: &Snapshot,
    (account, posture): (Option<(Vec<GroupName>, bool)>, Posture),
    now: Timestamp,
) -> anyhow::Result<Answer> {
    // As it stands: letter case tells methods apart, here as on the wire.
    let method =
        Method::from_bytes(args.method.as_bytes()).with_context(|| format!("{:?} is no method", args.method))?;
    let now = match &args.time {
        Some(text) => Timestamp::parse_rfc3339(text)
            .with_context(|| format!("{text:?} is no time: write it like 2026-11-24T14:30:00Z"))?,
        None => now,
    };
    let person = person(args, snapshot, account, now)?;
    // What was shown for a level was shown before the posture changed.
    let snapshot = &snapshot.under(posture);
    let client = args.from.map_or_else(nowhere, ClientIp::new);
    let mut answer = Answer {
        asked: format!("{method} {}", args.url),
        circumstances: circumstances(args, &person, posture, now),
        verdict: "reject",
        posture,
        app: None,
        rule: None,
        place: None,
        level: None,
        missing: None,
        answer: None,
        location: None,
        exception: None,
        grace: None,
        shadow: None,
        reason: String::new(),
        notes: Vec::new(),
        rows: Vec::new(),
    };
    let (route, host, target) = match find(snapshot, &args.url)? {
        Found::App(route, host, target) => (route, host, target),
        Found::Nothing(reason) => {
            answer.reason = reason;
            return Ok(answer);
        }
    };
    answer.app = Some(route.app.to_string());
    match method::check(&method) {
        Ok(()) => {}
        Err(MethodError::NotCarried) => {
            answer.reason = format!("405: {method} is never passed to an app");
            return Ok(answer);
        }
        Err(error @ MethodError::NotInCapitals) => {
            answer.reason = format!("400: {error}; ask for {}", args.method.to_ascii_uppercase());
            return Ok(answer);
        }
    }
    let mut trace = TraceTable::default();
    let content = args.body.content();
    let question = Question { method: &method, target, content: &content, client, authn: &person.authn, now };
    let asked = match (&args.destination, &host) {
        (Some(to), Some(host)) => ask_at_both(route, host, &question, to, &mut trace),
        (Some(_), None) | (None, _) => ask(route, &question, &mut trace)
            .map(|decision| Ruling { decision, by_destination: false })
            .map_err(AskError::from),
    };
    let Ruling { decision, by_destination } = match asked {
        Ok(ruling) => ruling,
        Err(error) => {
            answer.reason = format!("400: {error}");
            return Ok(answer);
        }
    };
    if by_destination {
        let to = args.destination.as_deref().unwrap_or_default();
        answer.notes.push(format!("decided at the Destination {to}, which the request writes to"));
    } else if args.destination.is_some()
        && !matches!(in_capitals(&method).as_ref().unwrap_or(&method).as_str(), "COPY" | "MOVE")
    {
        answer
            .notes
            .push(format!("the Destination of {method} is read by servers that take it for COPY or MOVE alone"));
    }
    if trace.extra {
        answer.notes.push(format!(
            "decided for the reading {} {}: the app may take the request for that one too",
            trace.method, trace.path
        ));
    }
    answer.rows = rows(route, &trace, args, &person, &question);
    settle(&mut answer, snapshot, route, &decision, &person);
    excepted(&mut answer, route, &decision, &person, now);
    let destination = host.as_ref().zip(args.destination.as_deref());
    if let Some(shadow) = shadow_of(route, &question, destination) {
        shadowed(&mut answer, route, shadow);
    }
    let origin = host.map(|host| format!("{}://{host}", snapshot.public_scheme().as_str()));
    answer.location = sent_to(route, &decision, target, origin.as_deref().unwrap_or_default());
    Ok(answer)
}

/// Who is asking, as far as it is known.
struct Person {
    authn: Authn,
    groups_known: bool,
}

fn person(
    args: &ExplainArgs,
    snapshot: &Snapshot,
    account: Option<(Vec<GroupName>, bool)>,
    now: Timestamp,
) -> anyhow::Result<Person> {
    let Some(name) = &args.user else { return Ok(Person { authn: Authn::Anonymous, groups_known: true }) };
    let name = UserName::parse(name).with_context(|| format!("{name:?} is no user name"))?;
    let given = args.groups.as_ref().map(|groups| {
        let texts = groups.iter().filter(|g| !g.is_empty());
        texts
            .map(|g| GroupName::parse(g).with_context(|| format!("{g:?} is no group name")))
            .collect::<Result<Vec<_>, _>>()
    });
    let ever_enrolled = account.as_ref().is_none_or(|(_, ever_enrolled)| *ever_enrolled) && !args.never_enrolled;
    let groups = given.transpose()?.or(account.map(|(groups, _)| groups));
    let level = match &args.at {
        Some(level) if level != "none" => Some(snapshot.level(level).with_context(|| {
            let known = snapshot.levels.iter().map(|l| l.name.as_str()).chain(["none"]);
            let hint = did_you_mean(level, known.clone())
                .unwrap_or_else(|| format!("levels: {}", known.collect::<Vec<_>>().join(", ")));
            format!("there is no level {level:?} - {hint}")
        })?),
        _ => None,
    };
    let authn = somebody(&name, groups.as_deref().unwrap_or_default(), level, now);
    let authn = if ever_enrolled { authn } else { never_enrolled(authn) };
    Ok(Person { authn, groups_known: groups.is_some() })
}

pub(super) enum Found<'a> {
    /// The app, its host, and the target.
    App(&'a Route, Option<HostName>, &'a str),
    /// Why no rule was asked.
    Nothing(String),
}

/// Takes the URL apart as it was typed: a URL library would repair what the gate refuses.
pub(super) fn find<'a>(snapshot: &'a Snapshot, url: &'a str) -> anyhow::Result<Found<'a>> {
    // Clients cut it before they send, and hyper cuts it from those who do not (S-PATH-7).
    let url = url.split('#').next().unwrap_or(url);
    let (host, target) = match url.split_once("://") {
        Some((_, rest)) => {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, target) = rest.split_at(at);
            (Some(host), if target.is_empty() { "/" } else { target })
        }
        None => (None, url),
    };
    let (route, host) = match host {
        Some(host) => {
            let Ok(host) = HostName::parse(host.as_bytes(), snapshot.public_scheme()) else {
                return Ok(Found::Nothing("400: the host cannot be read".to_owned()));
            };
            if snapshot.portal.as_ref().is_some_and(|p| p.host == host) {
                return Ok(Found::Nothing("this is the portal: it serves Stepgate's own pages, and no app".to_owned()));
            }
            match snapshot.routes.find(&host) {
                Some(route) => (&**route, Some(host)),
                None => return Ok(Found::Nothing(format!("421: no app has the host {host}{}", near(snapshot, &host)))),
            }
        }
        None if !target.starts_with('/') => {
            bail!("which app? Give the whole URL: {}://{url}", snapshot.public_scheme().as_str())
        }
        None => {
            let mut apps = snapshot.routes.iter();
            match (apps.next(), apps.next()) {
                (Some(only), None) => (&**only, only.hosts.first().cloned()),
                _ => bail!("which app? Give the whole URL: {}://HOST{url}", snapshot.public_scheme().as_str()),
            }
        }
    };
    if target.starts_with(portal::PREFIX) {
        return Ok(Found::Nothing(format!("{} is Stepgate's own: it never reaches an app", portal::PREFIX)));
    }
    Ok(Found::App(route, host, target))
}

/// The host that was probably meant: the same name with its port, or one that is spelled nearly so.
fn near(snapshot: &Snapshot, asked: &HostName) -> String {
    let hosts = || snapshot.routes.iter().flat_map(|r| &r.hosts);
    let hint = match hosts().find(|host| host.name() == asked.name()) {
        Some(host) => Some(format!("did you mean {:?}?", host.as_str())),
        None => did_you_mean(asked.as_str(), hosts().map(HostName::as_str)),
    };
    hint.map(|hint| format!(" - {hint}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::config::Purpose;
    use crate::config::from_text;

    const FILE: &str = r#"
version: 1
listen: [{ addr: "127.0.0.1:8080", role: proxy }]
networks: { office: [198.51.100.0/24] }
portal: { host: login.example }
trusted_proxies: [10.0.0.4]
apps:
- app: payroll
  hosts: [payroll.example]
  upstream: { urls: ["http://127.0.0.1:9"] }
  allow: [group:staff]
  rules:
  - { name: assets, match: { path: /static/**, methods: [GET] }, allow: [anyone], require: none }
  - { name: export, match: { path: /export/**, from: [office] }, require: fresh }
  - { name: export-else, match: { path: /export/** }, deny: "Exports work from the office." }
  - { name: approve, match: { path: /runs/*/approve, methods: [POST] }, require: fresh }
  - { name: moved, match: { path: /old/** }, redirect: /new/** }
  - { name: away, match: { path: /away }, redirect: https://other.example/ }
  - { name: plans, match: { path: /plans/** }, require: fresh, shadow: true }
  exceptions:
  - { who: [user:lee], rules: [approve], require: mfa, until: 2026-11-30, approved_by: dana, ticket: SEC-7 }
"#;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ExplainArgs,
    }

    fn asked(line: &str) -> Answer {
        asked_of(FILE, line)
    }

    fn asked_of(file: &str, line: &str) -> Answer {
        let args = Line::try_parse_from(std::iter::once("explain").chain(line.split(' '))).unwrap().args;
        let (snapshot, _) = from_text(file, Path::new("."), Purpose::Check).unwrap();
        let now = Timestamp::parse_rfc3339("2026-11-24T10:00:00Z").unwrap();
        explain(&args, &snapshot, (None, args.posture.unwrap_or_default()), now).unwrap()
    }

    #[test]
    fn a_grace_is_named_while_it_holds_and_only_for_whoever_never_had_a_factor() {
        let grace = "levels: { mfa: { factors: 2, grace: { until: 2026-12-01, require: password } } }\napps:\n";
        let file = FILE.replacen("apps:\n", grace, 1);
        let line = "GET https://payroll.example/ --as ann --groups staff";
        assert_eq!(asked_of(&file, line).verdict, "challenge", "nobody is taken to have none");
        let let_in = asked_of(&file, &format!("{line} --never-enrolled"));
        assert_eq!((let_in.verdict, let_in.level.as_deref()), ("allow", Some("password")));
        assert_eq!(
            let_in.notes,
            ["a second factor is not asked for until 2026-12-02T00:00:00.000Z: they never had one"]
        );
        assert_eq!(let_in.json()["grace"], "2026-12-02T00:00:00.000Z");
        for (time, verdict) in [("2026-12-01T23:59:59Z", "allow"), ("2026-12-02T00:00:00Z", "challenge")] {
            assert_eq!(asked_of(&file, &format!("{line} --never-enrolled --time {time}")).verdict, verdict, "{time}");
        }
        let fresh = "POST https://payroll.example/runs/7/approve --as ann --groups staff --never-enrolled";
        assert_eq!(asked_of(&file, fresh).verdict, "challenge", "another level has none");
        let nobody = asked_of(&file, "GET https://payroll.example/");
        assert_eq!(nobody.verdict, "challenge", "a sign-in is always asked");
    }

    #[test]
    fn a_form_is_asked_about_as_it_would_be_sent() {
        let file = FILE.replace(
            "  - { name: moved,",
            "  - { name: purge, match: { path: /one, form: { action: [purge, delete] } }, require: fresh }\n  - { name: moved,",
        );
        let one = "POST https://payroll.example/one --as ann --groups staff --at mfa";
        let asked = |more: &str| asked_of(&file, &format!("{one}{more}"));
        let said = |answer: &Answer| format!("{} {}", answer.verdict, answer.rule.as_deref().unwrap_or("-"));
        assert_eq!(said(&asked(" --form action=show --form id=7")), "allow default");
        assert_eq!(said(&asked(" --form action=show --form action=purge")), "challenge purge");
        assert_eq!(said(&asked(" --form Action[]=purge")), "challenge purge");
        assert_eq!(said(&asked(r#" --json-body {"action":"show"}"#)), "challenge purge");
        assert_eq!(said(&asked(" --unreadable-body")), "challenge purge");
        let told = asked(" --form action=show").text();
        assert!(told.contains("form: wants action=purge|delete, seen another form"), "{told}");
        let told = asked("").text();
        let wanted = "form: wants action=purge|delete, not known (no body: give --form or --json-body)";
        assert!(told.contains(wanted), "{told}");
        let purge = asked(" --form action=purge --form id=7").text();
        assert!(purge.contains("sending action=purge id=7, at "), "{purge}");
        let both = format!("explain {one} --form a=b --json-body {{}}");
        assert!(Line::try_parse_from(both.split(' ')).is_err());
        assert!(Line::try_parse_from(format!("explain {one} --form a").split(' ')).is_err());
    }

    #[test]
    fn a_person_at_three_in_the_morning_reads_why() {
        let lee = "--as lee --groups staff";
        let approve = asked("POST https://payroll.example/runs/7/approve --as ann --groups staff --at mfa");
        insta::assert_snapshot!(approve.text(), @r"
        POST https://payroll.example/runs/7/approve
        as ann (staff), having shown just what `mfa` asks for, from no known network, at 2026-11-24T10:00:00.000Z

        CHALLENGE by rule approve (stepgate.yaml:16): `fresh` is asked for: what was shown is too old; one of totp, hotp, webauthn, backup_codes is next

          ✗ assets       stepgate.yaml:13  method: wants GET, seen POST
          ✗ export       stepgate.yaml:14  path: wants /export/**, seen /runs/7/approve
          ✗ export-else  stepgate.yaml:15  path: wants /export/**, seen /runs/7/approve
          ✓ approve      stepgate.yaml:16  matched: this rule decides
          · moved        stepgate.yaml:17  not reached
          · away         stepgate.yaml:18  not reached
          · plans        stepgate.yaml:19  not reached
        ");
        let export = asked(&format!("GET https://payroll.example/export/all {lee} --at fresh"));
        insta::assert_snapshot!(export.text(), @r"
        GET https://payroll.example/export/all
        as lee (staff), having shown just what `fresh` asks for, from no known network, at 2026-11-24T10:00:00.000Z

        DENY by rule export-else (stepgate.yaml:15): Exports work from the office.

          ✗ assets       stepgate.yaml:13  path: wants /static/**, seen /export/all
          ? export       stepgate.yaml:14  from: wants office, not known (give --from)
          ✓ export-else  stepgate.yaml:15  matched: this rule decides
          · approve      stepgate.yaml:16  not reached
          · moved        stepgate.yaml:17  not reached
          · away         stepgate.yaml:18  not reached
          · plans        stepgate.yaml:19  not reached
        ");
    }

    #[test]
    fn scripts_get_verdict_rule_level_missing_and_trace() {
        let allow = asked("GET https://payroll.example/static/app.css --anonymous").json();
        assert_eq!(
            (&allow["verdict"], &allow["rule"], &allow["level"]),
            (&json!("allow"), &json!("assets"), &json!("none"))
        );
        assert_eq!(allow["missing"], Json::Null);
        let challenge = asked("GET https://payroll.example/ --as ann --groups staff").json();
        assert_eq!(challenge["verdict"], "challenge");
        assert_eq!((&challenge["rule"], &challenge["level"]), (&json!("default"), &json!("mfa")));
        assert_eq!(challenge["missing"]["password"], false);
        assert!(challenge["missing"]["any_of"].as_array().unwrap().contains(&json!("totp")));
        assert_eq!(challenge["trace"][0]["mark"], "missed");
        let deny = asked("GET https://payroll.example/ --as ann --groups sales --at mfa").json();
        assert_eq!((&deny["verdict"], &deny["reason"]), (&json!("deny"), &json!("only group:staff may pass")));
    }

    #[test]
    fn s_path_7_what_the_gate_refuses_is_refused_here_too() {
        for (url, reason) in [
            ("https://payroll.example/runs/7%2fapprove", "400: the path holds an escaped slash"),
            ("https://payroll.example//runs", "400: the path holds an empty segment"),
            ("https://other.example/", "421: no app has the host"),
            ("https://u@payroll.example/", "400: the host cannot be read"),
            ("https://login.example/", "this is the portal"),
            ("https://payroll.example/.stepgate/login", "Stepgate's own"),
        ] {
            let answer = asked(&format!("GET {url}"));
            assert_eq!(answer.verdict, "reject", "{url}");
            assert!(answer.reason.contains(reason), "{url}: {}", answer.reason);
        }
        // Cut as clients and hyper cut it.
        assert_eq!(asked("POST /runs/7/approve#/static/x").rule.as_deref(), Some("approve"));
        assert_eq!(asked("POST /runs/7/approve?/static/x").rule.as_deref(), Some("approve"));
    }

    #[test]
    fn a_redirect_says_where_this_very_request_is_sent() {
        let moved = asked("GET https://payroll.example/old/a%20b?x=1 --as lee --groups staff --at mfa");
        assert!(moved.text().contains("redirect 307 /new/**, here to https://payroll.example/new/a%20b?x=1\n"));
        assert_eq!(moved.json()["location"], "https://payroll.example/new/a%20b?x=1");
        let away = asked("GET /away --as lee --groups staff --at mfa");
        assert_eq!(away.json()["location"], "https://other.example/");
        assert_eq!(asked("GET /old/a --anonymous").json()["location"], Json::Null, "who is asked is sent nowhere yet");
    }

    #[test]
    fn a_copy_or_move_is_judged_at_its_destination_too() {
        let moves = |method: &str, to: &str| {
            asked(&format!("{method} /docs/a --as lee --groups staff --at mfa --destination {to}"))
        };
        assert_eq!(moves("MOVE", "/docs/b").verdict, "allow");
        let closed = moves("MOVE", "https://payroll.example/export/b");
        assert_eq!((closed.verdict, closed.rule.as_deref()), ("deny", Some("export-else")));
        assert!(closed.notes[0].contains("decided at the Destination"), "{:?}", closed.notes);
        let elsewhere = moves("COPY", "https://other.example/b");
        assert!(elsewhere.verdict == "reject" && elsewhere.reason.contains("it is on another host"), "{elsewhere:?}");
        let unread = moves("PUT", "/export/b");
        assert!(unread.verdict == "allow" && unread.notes[0].contains("COPY or MOVE alone"), "{:?}", unread.notes);
    }

    #[test]
    fn a_rule_that_is_only_tried_is_marked_and_what_it_would_say_is_told() {
        let answer = asked("GET https://payroll.example/plans/a --as lee --groups staff --at mfa");
        insta::assert_snapshot!(answer.text(), @r"
        GET https://payroll.example/plans/a
        as lee (staff), having shown just what `mfa` asks for, from no known network, at 2026-11-24T10:00:00.000Z

        ALLOW by the app's default (stepgate.yaml:8): what was shown is enough for `mfa`
        note: shadow rule plans (stepgate.yaml:19) would say challenge fresh

          ✗ assets       stepgate.yaml:13  path: wants /static/**, seen /plans/a
          ✗ export       stepgate.yaml:14  path: wants /export/**, seen /plans/a
          ✗ export-else  stepgate.yaml:15  path: wants /export/**, seen /plans/a
          ✗ approve      stepgate.yaml:16  method: wants POST, seen GET
          ✗ moved        stepgate.yaml:17  path: wants /old/**, seen /plans/a
          ✗ away         stepgate.yaml:18  path: wants /away, seen /plans/a
          ~ plans        stepgate.yaml:19  matched: shadow, not enforced
          ✓ default      stepgate.yaml:8   no rule matched
        ");
        let json = answer.json();
        assert_eq!((&json["verdict"], &json["rule"]), (&json!("allow"), &json!("default")));
        assert_eq!(json["shadow"], json!({ "rule": "plans", "verdict": "challenge", "level": "fresh" }));
    }

    #[test]
    fn an_exception_is_named_while_it_holds_and_when_it_has_ended() {
        let lee = asked("POST /runs/7/approve --as lee --groups staff --at mfa --time 2026-11-30T23:59:59Z");
        assert_eq!((lee.verdict, lee.level.as_deref()), ("allow", Some("mfa")));
        let note = "let off `fresh` by the exception SEC-7 (stepgate.yaml:21), approved by dana, until 2026-12-01T00:00:00.000Z";
        assert_eq!(lee.notes, [note]);
        assert_eq!(lee.json()["exception"]["ticket"], "SEC-7");
        let late = asked("POST /runs/7/approve --as lee --groups staff --at mfa --time 2026-12-01T00:00:00Z");
        assert_eq!(late.verdict, "challenge");
        assert_eq!(late.notes, ["the exception SEC-7 ended at 2026-12-01T00:00:00.000Z: it lets nobody off any more"]);
        assert_eq!(late.json()["exception"], Json::Null);
    }

    #[test]
    fn s_path_6_a_method_is_explained_in_the_letters_that_are_sent() {
        let small = asked("post /runs/7/approve --as ann --groups staff --at mfa");
        assert_eq!(
            (small.verdict, &*small.reason),
            ("reject", "400: the method must be written in capitals; ask for POST")
        );
        assert_eq!(asked("trace /").reason, "405: trace is never passed to an app");
        let file = FILE.replace("methods: [POST]", "methods: [POST, PATCH]");
        let patch = asked_of(&file, "patch /runs/7/approve --as ann --groups staff --at mfa");
        assert_eq!((patch.verdict, patch.rule.as_deref()), ("challenge", Some("approve")));
        assert!(patch.notes[0].contains("PATCH /runs/7/approve"), "{:?}", patch.notes);
    }

    #[test]
    fn another_reading_that_decides_is_named() {
        let answer = asked("POST /Runs/7/Approve.json --as ann --groups staff --at mfa");
        assert_eq!(answer.rule.as_deref(), Some("approve"));
        assert!(answer.notes[0].contains("POST /runs/7/approve"), "{:?}", answer.notes);
    }
}
