//! Authelia's files: the configuration, the file of users, and what `authelia storage user totp export` writes.

use super::people::{Found, People, phone_of_export};
use super::rules::{self, Converted};
use crate::base::secret::Secret;
use crate::config::yaml::{self, Node, Value};

/// What one file turned out to be.
pub enum Kind {
    Configuration,
    Users(usize),
    Authenticators(usize),
}

/// Everything that the files say.
#[derive(Default)]
pub struct Files {
    pub people: People,
    pub converted: Option<Converted>,
}

/// Reads one file by what stands in it. `apps` are hosts named on the command line, with the app's address where given.
pub fn read(name: &str, text: &str, apps: &[(String, Option<String>)], found: &mut Files) -> anyhow::Result<Kind> {
    let before = found.people.phones.len();
    if text.lines().any(|line| line.trim_start().starts_with("otpauth://")) {
        found.people.read_addresses(text, "Authelia");
        return Ok(Kind::Authenticators(found.people.phones.len() - before));
    }
    if text.lines().next().is_some_and(|line| line.trim() == "issuer,username,algorithm,digits,period,secret") {
        for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
            found.people.phones.extend(phone_of_csv(line));
        }
        return Ok(Kind::Authenticators(found.people.phones.len() - before));
    }
    let root = yaml::parse(text)
        .map_err(|error| anyhow::anyhow!("{name}:{}:{}: {}", error.at.line, error.at.column, error.message))?;
    if let Some(list) = root.get("totp_configurations") {
        for entry in list.items() {
            let field = |key: &str| entry.get(key).map(scalar).unwrap_or_default();
            found.people.phones.push(phone_of_export(
                &field("username"),
                &field("secret"),
                &field("digits"),
                &field("period"),
                &field("algorithm"),
                &field("issuer"),
            ));
        }
        return Ok(Kind::Authenticators(found.people.phones.len() - before));
    }
    if root.has("access_control") || root.has("authentication_backend") || root.has("session") {
        if found.converted.is_some() {
            anyhow::bail!("{name}: a second configuration; name one");
        }
        found.converted = Some(rules::convert(name, &root, apps)?);
        return Ok(Kind::Configuration);
    }
    if let Some(users) = root.get("users") {
        for entry in users.entries() {
            let text = |key: &str| entry.node.get(key).map(scalar).filter(|text| !text.is_empty());
            let groups = entry.node.get("groups").map(Node::one_or_many).unwrap_or_default();
            found.people.found.push(Found {
                name: entry.key.clone(),
                display: text("displayname").unwrap_or_default(),
                email: text("email"),
                groups: groups.iter().map(scalar).filter(|group| !group.is_empty()).collect(),
                disabled: entry.node.get("disabled").is_some_and(|node| matches!(node.value, Value::Bool(true))),
                hash: text("password")
                    .map(|hash| Secret::new(hash.strip_prefix("{CRYPT}").unwrap_or(&hash).to_owned())),
            });
        }
        return Ok(Kind::Users(users.entries().len()));
    }
    anyhow::bail!(
        "{name} is none of Authelia's files that can be read here: configuration.yml, a file of users, or an export of \
         `authelia storage user totp export`"
    )
}

/// A line of the CSV export. Its fields hold no comma but, where somebody chose so, the issuer.
fn phone_of_csv(line: &str) -> Option<super::people::Phone> {
    let mut fields = line.trim().rsplitn(6, ',').map(|field| field.trim_matches('"'));
    let (secret, period, digits) = (fields.next()?, fields.next()?, fields.next()?);
    let (algorithm, name, issuer) = (fields.next()?, fields.next()?, fields.next()?);
    let secret = data_encoding::BASE64.encode(secret.as_bytes());
    Some(phone_of_export(name, &secret, digits, period, algorithm, issuer))
}

/// A value as text, whatever YAML made of it.
pub(super) fn scalar(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.clone(),
        Value::Int(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Null | Value::List(_) | Value::Map(_) => String::new(),
    }
}
