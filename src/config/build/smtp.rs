//! Where does our mail go, and may it go there in clear?

use std::net::IpAddr;
use std::sync::Arc;

use super::super::snapshot::{SmtpLogin, SmtpSettings, SmtpTls};
use super::super::yaml::{Node, Value};
use super::upstream::existing;
use super::{Context, Source};

pub(super) fn smtp(context: &mut Context<'_>, main: &Source) -> Option<Arc<SmtpSettings>> {
    let node = main.root.get("smtp")?;
    let file = &main.name;
    let text = |key: &str| node.get(key).and_then(Node::text);
    let tls = match text("tls") {
        Some("implicit") => SmtpTls::Implicit,
        Some("none") => SmtpTls::Off,
        _ => SmtpTls::StartTls,
    };
    let login = login(context, main, node);
    let ca = node.get("ca").and_then(|ca| existing(context, file, ca));
    let host = text("host")?.to_owned();
    if tls == SmtpTls::Off && !is_this_machine(&host) {
        let at = node.get("tls").map_or(node.at, |n| n.at);
        let named = node.get("dangerously_in_clear").is_some_and(|n| matches!(n.value, Value::Bool(true)));
        if login.is_some() {
            // Whoever reads it sends mail in the company's name from then on.
            context.report.fault(file, at, "`tls: none` would send the relay's password in clear over the network");
        } else if named {
            context.report.warn(
                file,
                at,
                "`dangerously_in_clear`: our mail crosses the network in clear, codes and links with it",
            );
        } else {
            context.report.fault_with(
                file,
                at,
                "`tls: none` is for a relay on this machine: our mail holds one-time codes and links",
                "use starttls or implicit, with `ca` for a private CA; else say `dangerously_in_clear: true`"
                    .to_owned(),
            );
        }
    }
    let default_port = match tls {
        SmtpTls::StartTls => 587,
        SmtpTls::Implicit => 465,
        SmtpTls::Off => 25,
    };
    Some(Arc::new(SmtpSettings {
        host,
        port: node.get("port").and_then(Node::int).and_then(|n| u16::try_from(n).ok()).unwrap_or(default_port),
        tls,
        ca,
        login,
        from: text("from")?.parse().ok()?,
        reply_to: text("reply_to").and_then(|address| address.parse().ok()),
    }))
}

fn login(context: &mut Context<'_>, main: &Source, node: &Node) -> Option<SmtpLogin> {
    let (username, password) = (node.get("username"), node.get("password"));
    if let (Some(alone), None) | (None, Some(alone)) = (username, password) {
        context.report.fault(&main.name, alone.at, "a login at the relay is `username` and `password` together");
    }
    let password = context.secret(&main.name, password?)?;
    Some(SmtpLogin { username: username?.text()?.to_owned(), password })
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
