//! What does the gate that runs say of itself: which files it works with, and which it refused?
//!
//! Asked at the ops listener, on this machine. The files may be good by now and the gate still at work
//! with those of yesterday: nothing but the gate itself knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value as Json;

use super::Finding;
use super::fetch::{self, FetchError};
use crate::base::version;
use crate::config::snapshot::{Listener, Role};
use crate::domain::audit::printable;

pub(super) async fn examine(listeners: &[Listener], findings: &mut Vec<Finding>) {
    let ops: Vec<SocketAddr> =
        listeners.iter().filter(|l| l.role == Role::Ops && l.addr.port() != 0).map(|l| reached_at(l.addr)).collect();
    if ops.is_empty() {
        let what = "without an `ops` listener it cannot be asked whether it took the files";
        findings.push(Finding::untried("the running gate", what));
    }
    for addr in ops {
        let about = format!("the running gate ({addr})");
        match fetch::get(addr, None, None, "localhost", "/readyz").await {
            Ok(answer) => match serde_json::from_slice::<Json>(&answer.body).ok().filter(|a| a["config"].is_object()) {
                Some(told) => judge(&about, &told, findings),
                None => findings.push(Finding::problem(
                    about,
                    format!("something else answers at the address of the ops listener ({})", answer.status),
                    "look at what listens there, or mend `listen`",
                )),
            },
            Err(error) => {
                let todo = match error {
                    FetchError::Connect(_) => "is it running (`systemctl status stepgate`)?",
                    _ => "is this machine among the `from` of that listener?",
                };
                findings.push(Finding::warning(about, format!("cannot be asked what it works with: {error}"), todo));
            }
        }
    }
}

/// Where a listener is reached from its own machine.
fn reached_at(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn judge(about: &str, told: &Json, findings: &mut Vec<Finding>) {
    let before = findings.len();
    let since = printable(told["config"]["loaded_at"].as_str().unwrap_or("its start"));
    if let Some(why) = told["config"]["refused"].as_str() {
        let at = told["config"]["refused_at"].as_str().map(printable).unwrap_or_default();
        let what =
            format!("still works with the configuration of {since}; at {at} it refused a newer one: {}", brief(why));
        let todo = if why.contains("cannot change while serving") {
            "restart it to take the change, or put the old value back"
        } else {
            "mend the files (`stepgate check`); it takes them by itself, or by `systemctl reload stepgate`"
        };
        findings.push(Finding::problem(about, what, todo));
    }
    if let Some(until) = told["config"]["confirm_until"].as_str() {
        let source = printable(told["config"]["source"].as_str().unwrap_or("a policy"));
        let what = format!("works with {source}, which it takes back at {}", printable(until));
        findings.push(Finding::warning(about, what, "`stepgate apply --confirm` with its number, where it is good"));
    }
    if let Some(why) = told["certificates"]["refused"].as_str() {
        let what = format!("still shows the old certificates, for the new ones cannot be used: {}", brief(why));
        findings.push(Finding::problem(about, what, "mend the files: it looks at them every 10 s"));
    }
    if let Some(running) = told["version"].as_str().filter(|running| *running != version::full()) {
        let what = format!(
            "is {}, and this program {}: they may judge the files differently",
            printable(running),
            version::full()
        );
        findings.push(Finding::warning(about, what, "restart it, where the program was replaced"));
    }
    if told["draining"] == true {
        findings.push(Finding::warning(about, "takes no new connections: it is about to end", "start it again"));
    }
    if told["store"] != "up" {
        let what = match told["writes_refused"].as_str() {
            Some(why) => format!("can write nothing to its store, and nobody can sign in: {}", brief(why)),
            None => "cannot reach its store: nobody can sign in".to_owned(),
        };
        findings.push(Finding::problem(about, what, "look at the database"));
    }
    if findings.len() == before {
        let what = match told["config"]["source"].as_str().filter(|source| *source != "the files") {
            Some(source) => {
                format!("works with {} since {since}, which was applied over these files", printable(source))
            }
            None => format!("works with the configuration of {since}"),
        };
        findings.push(Finding::fine(about, what));
    }
}

/// The first of several faults: `check` says the others.
fn brief(why: &str) -> String {
    let mut lines = why.lines();
    let first = printable(lines.next().unwrap_or_default());
    match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}
