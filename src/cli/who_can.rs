//! `stepgate who-can`: who of all accounts gets through to a page, and who would be stopped by what?
//! Each person is asked for through the same `decide()` as on the wire.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value as Json, json};

use super::check::{exit, say, sound_files};
use super::explain::{BodyArgs, Found, find, posture_in_force};
use super::state::{Needs, open};
use super::{Global, Usage};
use crate::audit::export::csv_line;
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::ids::UserId;
use crate::base::net::ClientIp;
use crate::config::Snapshot;
use crate::config::expect::{Question, ask, having_shown, never_enrolled, nowhere};
use crate::domain::authn::Authn;
use crate::domain::factor::FactorKind;
use crate::domain::level::Missing;
use crate::domain::method::{self, MethodError};
use crate::domain::path::PathError;
use crate::domain::policy::{Content, Decision};
use crate::domain::posture::Posture;
use crate::domain::route::Route;
use crate::domain::user::{User, UserStatus};

/// Say who of all accounts can open a page, who after a further factor, and who cannot.
#[derive(Debug, clap::Args)]
pub struct WhoCanArgs {
    /// GET, POST, ..., in the letters that the client sends.
    method: String,
    /// The whole URL as in a browser; a path is enough where there is one app with one host.
    url: String,
    /// The client's address, for all of them.
    #[arg(long, value_name = "IP")]
    from: Option<std::net::IpAddr>,
    /// The moment; now when left out.
    #[arg(long, value_name = "RFC3339")]
    time: Option<String>,
    /// The posture of the gate; the one in force when left out.
    #[arg(long, value_name = "POSTURE", value_parser = super::posture::parse)]
    posture: Option<Posture>,
    #[command(flatten)]
    body: BodyArgs,
    /// Print one JSON document.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values with a line of names above them.
    #[arg(long)]
    csv: bool,
}

/// What becomes of one person who has shown their password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Can,
    StepUp,
    NotEnrolled,
    NotAllowed,
}

impl Verdict {
    const ALL: [Self; 4] = [Self::Can, Self::StepUp, Self::NotEnrolled, Self::NotAllowed];

    fn word(self) -> &'static str {
        match self {
            Self::Can => "can",
            Self::StepUp => "step_up",
            Self::NotEnrolled => "not_enrolled",
            Self::NotAllowed => "not_allowed",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Can => "can",
            Self::StepUp => "can after step-up",
            Self::NotEnrolled => "cannot: not enrolled",
            Self::NotAllowed => "cannot: not allowed",
        }
    }
}

struct Row {
    name: String,
    verdict: Verdict,
    rule: String,
    level: Option<String>,
    /// What of theirs they would be asked for, or what they would have to enroll.
    factors: Vec<FactorKind>,
    /// The password alone is missing.
    note: Option<&'static str>,
}

/// What every person is asked about.
struct Asked<'a> {
    route: &'a Route,
    method: &'a Method,
    target: &'a str,
    content: &'a Content,
    client: ClientIp,
    now: Timestamp,
    snapshot: &'a Snapshot,
}

/// Exit 0 when the question has an answer, whoever is in it; 1 where no rule would be asked.
pub async fn run(args: WhoCanArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = sound_files(global)? else { return Ok(exit(false)) };
    let posture = match args.posture {
        Some(posture) => posture,
        None => posture_in_force(&snapshot).await,
    };
    let snapshot = snapshot.under(posture);
    // As it stands: letter case tells methods apart, here as on the wire.
    let method =
        Method::from_bytes(args.method.as_bytes()).map_err(|_| Usage(format!("{:?} is no method", args.method)))?;
    let now = match &args.time {
        Some(text) => Timestamp::parse_rfc3339(text)
            .map_err(|_| Usage(format!("{text:?} is no time: write it like 2026-11-24T14:30:00Z")))?,
        None => SystemClock.now(),
    };
    let (route, target) = match find(&snapshot, &args.url).map_err(|e| Usage(format!("{e:#}")))? {
        Found::App(route, _, target) => (route, target),
        Found::Nothing(reason) => return nobody(&reason),
    };
    match method::check(&method) {
        Ok(()) => {}
        Err(MethodError::NotCarried) => return nobody(&format!("405: {method} is never passed to an app")),
        Err(error @ MethodError::NotInCapitals) => {
            return nobody(&format!("400: {error}; ask for {}", args.method.to_ascii_uppercase()));
        }
    }
    let client = args.from.map_or_else(nowhere, ClientIp::new);
    let content = args.body.content();
    let asked = Asked { route, method: &method, target, content: &content, client, now, snapshot: &snapshot };
    if let Err(error) = asked.of(&Authn::Anonymous) {
        return nobody(&format!("400: {error}"));
    }

    let state = open(global, Needs::Settings).await?;
    let progress = Progress::new();
    progress.say("reading the accounts");
    let users = state.store.users().await?;
    let mut kinds = state.store.factor_kinds().await?;
    if snapshot.codes_by_email() {
        for user in users.iter().filter(|user| user.email.is_some()) {
            kinds.entry(user.id).or_default().push(FactorKind::Email);
        }
    }
    let with_password = state.store.with_password().await?;
    let rows = judge(&asked, &users, &kinds, &with_password, &progress)?;
    progress.end();
    if args.json {
        json_out(&args, &asked, &rows)?;
    } else if args.csv {
        csv_out(&rows)?;
    } else {
        text_out(&args, &asked, &rows)?;
    }
    Ok(exit(true))
}

fn nobody(reason: &str) -> anyhow::Result<ExitCode> {
    say(&format!("nobody: {reason}"))?;
    Ok(exit(false))
}

fn judge(
    asked: &Asked<'_>,
    users: &[User],
    kinds: &HashMap<UserId, Vec<FactorKind>>,
    with_password: &HashSet<UserId>,
    progress: &Progress,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(users.len());
    for (n, user) in users.iter().enumerate() {
        if n % 1000 == 0 {
            progress.say(&format!("{n} of {} accounts", users.len()));
        }
        let enrolled = kinds.get(&user.id).map_or(&[][..], Vec::as_slice);
        let row = asked.person(user, enrolled, with_password.contains(&user.id));
        rows.push(row.with_context(|| format!("the path cannot be read: {}", asked.target))?);
    }
    Ok(rows)
}

impl Asked<'_> {
    fn of(&self, authn: &Authn) -> Result<Decision, PathError> {
        let Self { method, target, content, client, now, .. } = *self;
        ask(self.route, &Question { method, target, content, client, authn, now }, &mut ())
    }

    fn person(&self, user: &User, enrolled: &[FactorKind], has_password: bool) -> Result<Row, PathError> {
        let mut row = Row {
            name: user.name.to_string(),
            verdict: Verdict::NotAllowed,
            rule: String::new(),
            level: None,
            factors: Vec::new(),
            note: None,
        };
        // Whoever cannot sign in meets what is open to everybody, and nothing else.
        let signs_in = user.status == UserStatus::Active && has_password;
        let shown: &[FactorKind] = &[FactorKind::Password];
        let at_first = if signs_in { self.of(&self.somebody(user, shown))? } else { self.of(&Authn::Anonymous)? };
        row.rule = rule_of(&at_first).to_owned();
        let challenge = match at_first {
            Decision::Allow(permit) => {
                row.verdict = Verdict::Can;
                row.level = permit.level().map(ToString::to_string);
                row.note = permit.grace().map(|_| "by the grace of the level: no second factor yet");
                return Ok(row);
            }
            Decision::Deny(_) => return Ok(row),
            Decision::Challenge(challenge) => challenge,
        };
        row.level = Some(challenge.level.name.to_string());
        if user.status != UserStatus::Active {
            row.note = Some("the account is disabled");
            return Ok(row);
        }
        if !has_password {
            row.note = Some("has no password yet");
            // A sign-up link is of no use to somebody whom the policy does not name.
            match self.of(&self.somebody(user, shown))? {
                Decision::Deny(deny) => row.rule = deny.rule.to_string(),
                Decision::Allow(_) | Decision::Challenge(_) => row.verdict = Verdict::NotEnrolled,
            }
            return Ok(row);
        }
        // Everything that they have, shown now: what is still asked for then, they do not have.
        let mut all = vec![FactorKind::Password];
        all.extend(enrolled.iter().copied().filter(|kind| self.snapshot.offers(*kind)));
        match self.of(&self.somebody(user, &all))? {
            Decision::Allow(_) => {
                row.verdict = Verdict::StepUp;
                row.factors = among(&challenge.missing, |kind| enrolled.contains(&kind));
            }
            Decision::Challenge(still) => {
                row.verdict = Verdict::NotEnrolled;
                row.rule = still.rule.to_string();
                row.level = Some(still.level.name.to_string());
                row.factors = among(&still.missing, |kind| self.snapshot.offers(kind));
                if row.factors.is_empty() {
                    row.note = Some("no factor of this version can show it");
                }
            }
            Decision::Deny(deny) => row.rule = deny.rule.to_string(),
        }
        Ok(row)
    }

    fn somebody(&self, user: &User, shown: &[FactorKind]) -> Authn {
        // A moment ago: evidence of this very moment is as fresh as it gets.
        let at = self.now.minus(Duration::from_secs(1));
        let authn = having_shown(&user.name, &user.groups, shown, at);
        if user.ever_enrolled { authn } else { never_enrolled(authn) }
    }
}

fn rule_of(decision: &Decision) -> &str {
    match decision {
        Decision::Allow(permit) => permit.rule().as_str(),
        Decision::Challenge(challenge) => challenge.rule.as_str(),
        Decision::Deny(deny) => deny.rule.as_str(),
    }
}

fn among(missing: &Missing, which: impl Fn(FactorKind) -> bool) -> Vec<FactorKind> {
    missing.any_of.iter().copied().filter(|kind| which(*kind)).collect()
}

fn count(rows: &[Row], verdict: Verdict) -> usize {
    rows.iter().filter(|row| row.verdict == verdict).count()
}

fn names(kinds: &[FactorKind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

impl Row {
    /// What goes with the verdict, for people.
    fn why(&self) -> String {
        let level = self.level.as_deref().unwrap_or("none");
        let mut text = match self.verdict {
            Verdict::Can | Verdict::NotAllowed => String::new(),
            Verdict::StepUp => format!("{level}: {}", names(&self.factors)),
            Verdict::NotEnrolled if self.factors.is_empty() => level.to_owned(),
            Verdict::NotEnrolled => format!("{level} needs one of {}", names(&self.factors)),
        };
        if let Some(note) = self.note {
            let _ = write!(text, "{}{note}", if text.is_empty() { "" } else { "; " });
        }
        text
    }
}

fn text_out(args: &WhoCanArgs, asked: &Asked<'_>, rows: &[Row]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut write = || -> io::Result<()> {
        let wide = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0).min(40);
        let (user, rule) = (wide(&|r| r.name.chars().count()), wide(&|r| r.rule.chars().count()));
        for row in rows {
            let line = format!("{:user$}  {:20}  {:rule$}  {}", row.name, row.verdict.sentence(), row.rule, row.why());
            writeln!(out, "{}", line.trim_end())?;
        }
        let counts: Vec<String> =
            Verdict::ALL.iter().map(|v| format!("{} {}", count(rows, *v), v.sentence())).collect();
        writeln!(out, "{} accounts: {}", rows.len(), counts.join(", "))?;
        let selects_by_address = asked.route.policy.rules.iter().any(|rule| rule.matcher.from.is_some());
        if args.from.is_none() && selects_by_address {
            writeln!(out, "note: asked from no known network; rules of this app have `from`: give --from")?;
        }
        out.flush()
    };
    gone_is_fine(write())
}

fn csv_out(rows: &[Row]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut write = || -> io::Result<()> {
        csv_line(&mut out, ["user", "verdict", "rule", "level", "factors", "note"].map(str::to_owned).into_iter())?;
        for row in rows {
            let (verdict, note) = (row.verdict.word().to_owned(), row.note.unwrap_or_default().to_owned());
            let level = row.level.clone().unwrap_or_default();
            let cells = [row.name.clone(), verdict, row.rule.clone(), level, names(&row.factors), note];
            csv_line(&mut out, cells.into_iter())?;
        }
        out.flush()
    };
    gone_is_fine(write())
}

fn json_out(args: &WhoCanArgs, asked: &Asked<'_>, rows: &[Row]) -> io::Result<()> {
    let counts: serde_json::Map<String, Json> =
        Verdict::ALL.iter().map(|v| (v.word().to_owned(), count(rows, *v).into())).collect();
    let people = rows.iter().map(|row| {
        json!({
            "user": row.name,
            "verdict": row.verdict.word(),
            "rule": row.rule,
            "level": row.level,
            "factors": row.factors,
            "note": row.note,
        })
    });
    let document = json!({
        "method": asked.method.as_str(),
        "url": args.url,
        "app": asked.route.app.as_str(),
        "at": asked.now.to_string(),
        "counts": counts,
        "people": people.collect::<Vec<_>>(),
    });
    say(&format!("{document:#}"))
}

/// A reader who went away (`| head`) has read enough.
fn gone_is_fine(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// How far it is, on a terminal alone.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    fn say(&self, what: &str) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{what} ...");
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
