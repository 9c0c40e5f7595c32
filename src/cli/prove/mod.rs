//! `stepgate prove`: does another spelling of a protected request go round its rule? Asked of the policy, and
//! of the app itself.

mod against;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::check::{exit, say, sound_files};
use super::{Global, Usage};
use crate::base::clock::{Clock, SystemClock};
use crate::config::prove::{Fate, Prover};
use crate::config::{Snapshot, did_you_mean};
use crate::domain::audit::printable;
use crate::domain::policy::spelling::Spelling;
use crate::domain::posture::Posture;
use crate::domain::route::Route;

/// Write every protected request in other ways (escapes, dots, slashes, letter case, `;` parameters, suffixes,
/// methods, queries, ...), and show that each is refused or stopped by its rule or a stricter one.
///
/// Requests are made up from the rules and taken from their tests. What was tried is proved, and nothing else:
/// of a rule with a regular expression there may be paths that none of them stands for.
#[derive(Debug, clap::Args)]
pub struct ProveArgs {
    /// Only this app; all of them when left out.
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// A page that is protected, by its path and query, besides those of the rules; may be given more than once.
    #[arg(long = "page", value_name = "PATH")]
    pages: Vec<String>,
    /// The posture of the gate.
    #[arg(long, value_name = "POSTURE", default_value = "normal", value_parser = super::posture::parse)]
    posture: Posture,
    /// Send what the policy lets through by a weaker rule to the app itself, past the gate, and say where it
    /// answers as for the protected page. An app of the files, or a URL. GET alone.
    #[arg(long, value_name = "URL|APP")]
    against: Option<String>,
    /// Requests a second to it, at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A spelling that goes round a rule.
struct Hole {
    app: String,
    rule: String,
    place: String,
    request: String,
    spelled: String,
    family: &'static str,
    /// Who gets through, by which rule.
    observer: String,
    by: String,
    /// What the app answered, where it was asked.
    answered: Option<String>,
}

/// What was tried of one rule.
#[derive(Default)]
struct Tried {
    place: String,
    requests: usize,
    refused: usize,
    stopped: usize,
    holes: usize,
    by_regex: bool,
}

/// Exit 0 when no spelling goes round a rule, 1 when one does, 3 when the app cannot be asked.
pub async fn run(args: ProveArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = sound_files(global)? else { return Ok(exit(false)) };
    let snapshot = snapshot.under(args.posture);
    if args.against.is_some() {
        return against::run(&args, &snapshot).await;
    }
    let routes = routes(&snapshot, args.app.as_deref())?;
    let mut holes = Vec::new();
    let mut report = Vec::new();
    for route in routes {
        let prover = Prover::new(&snapshot, route, &args.pages, SystemClock.now());
        let tried = prove(&prover, route, &mut holes);
        if !args.json {
            tell(route, &prover, &tried)?;
        }
        report.push(app_json(route, &prover, &tried));
    }
    if args.json {
        say(&format!(
            "{:#}",
            json!({ "ok": holes.is_empty(), "apps": report, "holes": holes.iter().map(Hole::json).collect::<Vec<_>>() })
        ))?;
        return Ok(exit(holes.is_empty()));
    }
    for hole in &holes {
        say(&hole.text())?;
    }
    say(&match holes.len() {
        0 => "No spelling goes round a rule.".to_owned(),
        1 => "1 spelling goes round a rule.".to_owned(),
        n => format!("{n} spellings go round a rule."),
    })?;
    Ok(exit(holes.is_empty()))
}

fn routes<'a>(snapshot: &'a Snapshot, app: Option<&str>) -> anyhow::Result<Vec<&'a Route>> {
    let Some(app) = app else { return Ok(snapshot.routes.iter().map(|route| &**route).collect()) };
    match snapshot.routes.app(app) {
        Some(route) => Ok(vec![route]),
        None => {
            let known = snapshot.routes.iter().map(|route| route.app.as_str());
            let hint = did_you_mean(app, known).map(|hint| format!(" - {hint}")).unwrap_or_default();
            Err(Usage(format!("there is no app {app:?}{hint}")).into())
        }
    }
}

fn prove(prover: &Prover<'_>, route: &Route, holes: &mut Vec<Hole>) -> BTreeMap<String, Tried> {
    let mut all: BTreeMap<String, Tried> = BTreeMap::new();
    for base in &prover.bases {
        let tried = all.entry(base.rule.to_string()).or_default();
        tried.place = place(route, &base.rule.to_string());
        tried.requests += 1;
        tried.by_regex |= base.sample.by_regex;
        for spelling in prover.spellings(base).iter().filter(|spelling| spelling.same) {
            match prover.fate(base, spelling) {
                Fate::Refused => tried.refused += 1,
                Fate::Stopped => tried.stopped += 1,
                Fate::Passed { rule, observer } => {
                    tried.holes += 1;
                    holes.push(Hole {
                        app: route.app.to_string(),
                        rule: base.rule.to_string(),
                        place: tried.place.clone(),
                        request: format!("{} {}", base.sample.method, base.target),
                        spelled: spelled(spelling),
                        family: spelling.family.words(),
                        observer: prover.observers.get(observer).map(|o| o.name.clone()).unwrap_or_default(),
                        by: rule.to_string(),
                        answered: None,
                    });
                }
            }
        }
    }
    all
}

/// Where a rule stands.
fn place(route: &Route, rule: &str) -> String {
    let found = route.policy.rules.iter().find(|r| r.name.as_str() == rule).map(|rule| &rule.place);
    let place = found.unwrap_or(&route.policy.default_place);
    format!("{}:{}", place.file, place.line)
}

fn spelled(spelling: &Spelling) -> String {
    let form = spelling.form_method.as_ref().map(|method| format!(" with _method={method} in its form"));
    printable(&format!("{} {}{}", spelling.method, spelling.target, form.unwrap_or_default()))
}

fn tell(route: &Route, prover: &Prover<'_>, tried: &BTreeMap<String, Tried>) -> anyhow::Result<()> {
    let wide = tried.keys().map(|rule| rule.chars().count()).max().unwrap_or(0).min(40);
    say(&format!("{}:", route.app))?;
    for (rule, Tried { requests, refused, stopped, holes, by_regex, .. }) in tried {
        let all = refused + stopped + holes;
        let round = if *holes == 0 { "none goes round".to_owned() } else { format!("{holes} GO ROUND IT") };
        let regex = if *by_regex { "; a regular expression: tested, not proved" } else { "" };
        say(&format!(
            "  {rule:wide$}  {requests} requests in {all} spellings: {refused} refused, {stopped} stopped, {round}{regex}"
        ))?;
    }
    if tried.is_empty() {
        say("  nothing in it is protected")?;
    }
    for rule in &prover.untried {
        say(&format!(
            "  {:wide$}  not tried: no request could be made up that it decides; write a test for it, or give --page ({}:{})",
            rule.name, rule.place.file, rule.place.line
        ))?;
    }
    Ok(())
}

fn app_json(route: &Route, prover: &Prover<'_>, tried: &BTreeMap<String, Tried>) -> Json {
    let rules = tried.iter().map(|(rule, t)| {
        json!({
            "rule": rule, "place": t.place, "requests": t.requests, "refused": t.refused, "stopped": t.stopped,
            "holes": t.holes, "by_regex": t.by_regex,
        })
    });
    let untried: Vec<&str> = prover.untried.iter().map(|rule| rule.name.as_str()).collect();
    json!({ "app": route.app.as_str(), "rules": rules.collect::<Vec<_>>(), "not_tried": untried })
}

impl Hole {
    fn text(&self) -> String {
        let Self { app, rule, place, request, spelled, family, observer, by, answered } = self;
        let answered =
            answered.as_ref().map(|answered| format!(", and the app answers {answered}")).unwrap_or_default();
        format!(
            "HOLE  {app}: {spelled}  ({family})\n      rule {rule} ({place}) stops {observer} at {request};\n      written so, rule {by} lets them through{answered}"
        )
    }

    fn json(&self) -> Json {
        json!({
            "app": self.app, "rule": self.rule, "place": self.place, "request": self.request, "spelled": self.spelled,
            "family": self.family, "observer": self.observer, "passed_by": self.by, "answered": self.answered,
        })
    }
}
