//! Which gateway sends our text messages, may it be spoken to in clear, and what does it get?

use std::net::IpAddr;
use std::sync::Arc;

use super::super::snapshot::{GatewayUrl, SmsAuth, SmsBody, SmsSettings};
use super::super::values;
use super::super::yaml::{Node, Value};
use super::upstream::existing;
use super::{Context, Source};

/// Messages in an hour, where the file does not say.
const PER_HOUR: u32 = 300;

pub(super) fn sms(context: &mut Context<'_>, main: &Source) -> Option<Arc<SmsSettings>> {
    let node = main.root.get("sms")?;
    let auth = auth(context, main, node);
    let signing = node.get("sign").and_then(|n| context.secret(&main.name, n));
    let ca = node.get("ca").and_then(|ca| existing(context, &main.name, ca));
    let body = body(context, main, node);
    let url = values::gateway_url(node.get("url").and_then(Node::text)?).ok()?;
    in_clear(context, main, node, &url);
    let texts = |key: &str| node.get(key).map(Node::one_or_many).unwrap_or_default();
    let success = texts("success").iter().filter_map(|n| n.int()).filter_map(|n| u16::try_from(n).ok()).collect();
    let allow_prefixes: Vec<String> =
        texts("allow_prefixes").iter().filter_map(|n| n.text()).map(str::to_owned).collect();
    if let (Some(at), true) = (node.get("allow_prefixes"), allow_prefixes.is_empty()) {
        context.report.fault(&main.name, at.at, "`allow_prefixes` names no country: no message could go anywhere");
    }
    Some(Arc::new(SmsSettings {
        url,
        ca,
        private: flag(node, "private"),
        auth,
        signing,
        body: body?,
        success,
        allow_prefixes,
        per_hour: node.get("per_hour").and_then(Node::int).and_then(|n| u32::try_from(n).ok()).unwrap_or(PER_HOUR),
    }))
}

/// Off unless the file says so, and never without a word (S-OOB-1).
pub(super) fn codes(context: &mut Context<'_>, main: &Source) -> bool {
    let Some(node) = main.root.get("factors").and_then(|n| n.get("sms")).and_then(|n| n.get("codes")) else {
        return false;
    };
    if !matches!(node.value, Value::Bool(true)) {
        return false;
    }
    if main.root.get("sms").is_none() {
        context.report.fault(&main.name, node.at, "codes by text message need a gateway: write `sms`");
    }
    context.report.warn(
        &main.name,
        node.at,
        "codes by text message are restricted (NIST SP 800-63B section 3.2.9): whoever takes a number over, by a new SIM or at \
         the network, has them; offer people another way too",
    );
    true
}

fn flag(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|n| matches!(n.value, Value::Bool(true)))
}

fn in_clear(context: &mut Context<'_>, main: &Source, node: &Node, url: &GatewayUrl) {
    let this_machine = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.https || this_machine {
        return;
    }
    let at = node.get("url").map_or(node.at, |n| n.at);
    if flag(node, "dangerously_in_clear") {
        let what = "`dangerously_in_clear`: one-time codes cross the network in clear, and the login with them";
        context.report.warn(&main.name, at, what);
    } else {
        context.report.fault_with(
            &main.name,
            at,
            "a gateway elsewhere is spoken to by https: our messages hold one-time codes",
            "write https://, with `ca` for a private CA; else say `dangerously_in_clear: true`".to_owned(),
        );
    }
}

fn auth(context: &mut Context<'_>, main: &Source, node: &Node) -> SmsAuth {
    let (basic, bearer) = (node.get("basic"), node.get("bearer"));
    if let (Some(_), Some(bearer)) = (basic, bearer) {
        context.report.fault(&main.name, bearer.at, "one login: `basic` or `bearer`");
    }
    if let Some(basic) = basic {
        let username = basic.get("username").and_then(Node::text).unwrap_or_default().to_owned();
        if username.contains(':') {
            // RFC 7617 section 2: what stands behind it would be read as the password.
            context.report.fault(&main.name, basic.at, "a name with a colon cannot be sent by `basic`");
        }
        let password = basic.get("password").and_then(|n| context.secret(&main.name, n));
        return password.map_or(SmsAuth::None, |password| SmsAuth::Basic { username, password });
    }
    bearer.and_then(|n| context.secret(&main.name, n)).map_or(SmsAuth::None, SmsAuth::Bearer)
}

fn body(context: &mut Context<'_>, main: &Source, node: &Node) -> Option<SmsBody> {
    let body = match (node.get("form"), node.get("json")) {
        (Some(form), None) => {
            let field = |entry: &super::super::yaml::Entry| {
                (entry.key.clone(), entry.node.text().unwrap_or_default().to_owned())
            };
            SmsBody::Form(form.entries().iter().map(field).collect())
        }
        (None, Some(json)) => SmsBody::Json(values::sms_document(json.text()?).ok()?),
        (Some(_), Some(json)) => {
            context.report.fault(&main.name, json.at, "one body: `form` or `json`");
            return None;
        }
        (None, None) => {
            context.report.fault(&main.name, node.at, "`sms` says nothing of the body: write `form` or `json`");
            return None;
        }
    };
    let mut texts = Vec::new();
    match &body {
        SmsBody::Form(fields) => texts.extend(fields.iter().map(|(_, value)| value.as_str())),
        SmsBody::Json(document) => strings(document, &mut texts),
    }
    let at = node.get("form").or_else(|| node.get("json")).map_or(node.at, |n| n.at);
    for (place, what) in [("{to}", "number"), ("{text}", "message")] {
        if !texts.iter().any(|text| text.contains(place)) {
            context.report.fault(&main.name, at, format!("the body has no place for the {what}: write {place}"));
        }
    }
    Some(body)
}

/// The strings of a document; names of members are none that are filled in.
fn strings<'a>(value: &'a serde_json::Value, out: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::String(text) => out.push(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
        serde_json::Value::Object(members) => members.values().for_each(|item| strings(item, out)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}
