//! The people that an import found: who they become here, said before it is done.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};

use anyhow::Context as _;
use data_encoding::{BASE32_NOPAD, BASE64};

use super::super::Global;
use super::super::check::say;
use super::super::state::{self, Needs};
use super::super::user::{link_url, operator, table};
use crate::auth::factors::{NotTakenOver, TotpKey};
use crate::auth::import::{Newcomer, OldPassword, OldPhone};
use crate::auth::users::Draft;
use crate::base::secret::Secret;
use crate::crypto::Scheme;
use crate::domain::user::{GroupName, User, UserName, UserStatus, display_text};

/// Each scheme that is left costs everybody's sign-in its work (S-LOGIN-1).
const MOST_SCHEMES: usize = 4;

/// Somebody as the other system has them.
#[derive(Default)]
pub struct Found {
    pub name: String,
    pub display: String,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub disabled: bool,
    pub hash: Option<Secret<String>>,
}

/// The authenticator app of somebody, by the name that they have there.
pub struct Phone {
    pub name: String,
    pub key: Result<TotpKey, String>,
    pub label: String,
}

/// Everybody that the files name.
#[derive(Default)]
pub struct People {
    pub found: Vec<Found>,
    pub phones: Vec<Phone>,
}

/// What becomes of one of them.
struct Fate {
    name: String,
    groups: String,
    password: String,
    phone: String,
    becomes: String,
}

struct Planned {
    newcomers: Vec<Newcomer>,
    phones: Vec<(User, OldPhone)>,
    fates: Vec<Fate>,
    schemes: Vec<Scheme>,
    with_link: usize,
    /// Of whom nothing is to be done: they are here already.
    there: usize,
    left: usize,
}

impl People {
    pub fn is_empty(&self) -> bool {
        self.found.is_empty() && self.phones.is_empty()
    }

    /// Adds what `otpauth://` addresses say, one a line. `from` is the label where an address names no issuer.
    pub fn read_addresses(&mut self, text: &str, from: &str) {
        for line in text.lines().map(str::trim).filter(|line| line.starts_with("otpauth://")) {
            self.phones.push(phone_of(line, from));
        }
    }
}

/// Says who they would become, and with `apply` makes it so.
pub async fn people(people: People, apply: bool, global: &Global) -> anyhow::Result<bool> {
    let state = if apply {
        Some(state::open(global, Needs::SettingsAndMake).await?)
    } else {
        match state::open(global, Needs::State).await {
            Ok(state) => Some(state),
            Err(error) => {
                note(&format!("not compared with accounts of this gate: {error:#}"))?;
                None
            }
        }
    };
    let there = match &state {
        Some(state) => state.store.users().await?,
        None => Vec::new(),
    };
    let left_from_before = match &state {
        Some(state) => state.store.imported_schemes().await?,
        None => Vec::new(),
    };
    let Planned { newcomers, phones, fates, schemes, with_link, there: are_there, left } =
        plan(people, &there, left_from_before);
    let mut rows = table(&["NAME", "GROUPS", "PASSWORD", "AUTHENTICATOR", "HERE"]);
    for fate in fates {
        rows.add_row([fate.name, fate.groups, fate.password, fate.phone, fate.becomes]);
    }
    say(&rows.to_string())?;
    let (added, added_phones) = (newcomers.len(), phones.len());
    if let (true, Some(state)) = (apply, &state) {
        let arrivals = state
            .auth
            .import(&operator(state), &state.snapshot, newcomers, phones)
            .await
            .context("nothing was imported")?;
        for arrival in &arrivals {
            if let Some(link) = &arrival.link {
                say(&format!("{}\t{}", arrival.user.name, link_url(&state.snapshot, link)))?;
            }
        }
        if with_link > 0 {
            note("a sign-up link works once, for 72 h; `stepgate user link NAME` makes another")?;
        }
    }
    let (were, phones_were) = match apply {
        true => ("were added", "authenticator was added to an account that is there"),
        false => ("would be added", "authenticator would be added to an account that is there"),
    };
    if added + added_phones + left == 0 {
        say(&format!("Nothing to do: {are_there} of {are_there} there already."))?;
        return Ok(true);
    }
    let mut sentence = format!(
        "{added} {were}: {} with their old password, {with_link} by a sign-up link; {left} left out, {are_there} there already.",
        added - with_link
    );
    if added_phones > 0 {
        sentence.push_str(&format!(" {added_phones} {phones_were}."));
    }
    if !apply {
        sentence.push_str(" Nothing was written: --apply does it.");
    }
    say(&sentence)?;
    if !schemes.is_empty() {
        let names: Vec<String> = schemes.iter().map(Scheme::to_string).collect();
        note(&format!(
            "until the last of these people has signed in once, every attempt to sign in costs the work of {} as well, \
             for all names alike",
            names.join(" and ")
        ))?;
    }
    Ok(left == 0)
}

fn plan(people: People, there: &[User], mut schemes: Vec<Scheme>) -> Planned {
    let People { found, phones } = people;
    let mut plan = Planned {
        newcomers: Vec::new(),
        phones: Vec::new(),
        fates: Vec::new(),
        schemes: Vec::new(),
        with_link: 0,
        there: 0,
        left: 0,
    };
    let folded = |name: &str| name.to_lowercase();
    let accounts: HashMap<String, &User> = there.iter().map(|user| (folded(user.name.as_str()), user)).collect();
    let mut phones_of: HashMap<String, Vec<Phone>> = HashMap::new();
    let mut order = Vec::new();
    for phone in phones {
        order.push(phone.name.clone());
        phones_of.entry(phone.name.clone()).or_default().push(phone);
    }
    let mut seen: HashSet<String> = HashSet::new();
    for person in found {
        let phones = phones_of.remove(&person.name).unwrap_or_default();
        let scheme = match &person.hash {
            Some(hash) => Scheme::of(hash.expose()).map_err(|why| why.to_string()),
            None => Err("none".to_owned()),
        };
        let scheme = scheme.and_then(|scheme| {
            if schemes.contains(&scheme) {
                return Ok(scheme);
            }
            if schemes.len() == MOST_SCHEMES {
                return Err(format!("a {}th kind of hash: {scheme}", MOST_SCHEMES + 1));
            }
            Ok(scheme)
        });
        let mut fate = Fate {
            name: crate::domain::audit::printable(&person.name),
            groups: if person.groups.is_empty() { "-".to_owned() } else { person.groups.join(", ") },
            password: scheme.as_ref().map_or_else(Clone::clone, Scheme::to_string),
            phone: phones_said(&phones),
            becomes: String::new(),
        };
        let disabled = person.disabled;
        let draft = match draft_of(&person) {
            Ok(draft) => draft,
            Err(why) => {
                fate.becomes = format!("left out: {why}");
                plan.left += 1;
                plan.fates.push(fate);
                continue;
            }
        };
        let folded_name = folded(draft.name.as_str());
        if let Some(user) = accounts.get(&folded_name) {
            let keys: Vec<OldPhone> = phones.into_iter().filter_map(old_phone).collect();
            if user.name != draft.name {
                fate.becomes = format!("left out: only letter case tells it from the account {}", user.name);
                plan.left += 1;
            } else if keys.is_empty() || user.ever_enrolled || user.status == UserStatus::Disabled {
                "left as it is: there is an account of this name".clone_into(&mut fate.becomes);
                plan.there += 1;
            } else {
                "left as it is, but for the authenticator, which is added".clone_into(&mut fate.becomes);
                plan.phones.extend(keys.into_iter().map(|key| ((*user).clone(), key)));
            }
            plan.fates.push(fate);
            continue;
        }
        if !seen.insert(folded_name) {
            fate.becomes = "left out: the same name (or the same but for letter case) stands above".to_owned();
            plan.left += 1;
            plan.fates.push(fate);
            continue;
        }
        let keys: Vec<OldPhone> = phones.into_iter().filter_map(old_phone).collect();
        let old = match (scheme, person.hash) {
            (Ok(scheme), Some(hash)) => {
                if !schemes.contains(&scheme) {
                    schemes.push(scheme);
                }
                Some(OldPassword { hash, scheme, phones: keys })
            }
            _ => None,
        };
        fate.becomes = match (&old, disabled) {
            (_, true) => "disabled, as it is there",
            (Some(old), false) if old.phones.is_empty() => "signs in as before",
            (Some(_), false) => "signs in as before, with the same authenticator",
            (None, false) => "sign-up link: a new password and authenticator",
        }
        .to_owned();
        plan.with_link += usize::from(old.is_none() && !disabled);
        plan.newcomers.push(Newcomer { draft, disabled, old });
        plan.fates.push(fate);
    }
    // Of people whose password stands elsewhere, or who were imported before.
    for name in order {
        let Some(phones) = phones_of.remove(&name) else { continue };
        let account = accounts.get(&folded(&name)).filter(|user| user.name.as_str() == name);
        let phone = phones_said(&phones);
        let keys: Vec<OldPhone> = phones.into_iter().filter_map(old_phone).collect();
        let becomes = match account {
            None => "left out: no account has this name, nor do the other files",
            Some(user) if user.status == UserStatus::Disabled => "left out: the account is disabled",
            Some(user) if user.ever_enrolled => "left as it is: the account has had a second factor already",
            Some(_) if keys.is_empty() => "left out",
            Some(_) => "the authenticator is added",
        };
        match account {
            Some(user) if becomes.starts_with("the") => {
                plan.phones.extend(keys.into_iter().map(|key| ((*user).clone(), key)))
            }
            Some(user) if user.ever_enrolled && user.status != UserStatus::Disabled => plan.there += 1,
            _ => plan.left += 1,
        }
        let (groups, password, becomes) = ("-".to_owned(), "-".to_owned(), becomes.to_owned());
        plan.fates.push(Fate { name: crate::domain::audit::printable(&name), groups, password, phone, becomes });
    }
    plan.schemes = schemes;
    plan
}

fn draft_of(person: &Found) -> Result<Draft, String> {
    let name = UserName::parse(&person.name).map_err(|why| why.to_string())?;
    let mut groups = Vec::with_capacity(person.groups.len());
    for group in &person.groups {
        groups.push(GroupName::parse(group).map_err(|why| format!("the group {group:?}: {why}"))?);
    }
    groups.sort();
    groups.dedup();
    // What people read; nothing goes by it.
    let display = display_text(&person.display).unwrap_or_default();
    let email = person.email.as_deref().and_then(|address| super::super::user::email(address).ok());
    Ok(Draft { name, display, email, groups })
}

fn old_phone(phone: Phone) -> Option<OldPhone> {
    Some(OldPhone { key: phone.key.ok()?, label: phone.label })
}

fn phones_said(phones: &[Phone]) -> String {
    if phones.is_empty() {
        return "-".to_owned();
    }
    let said: Vec<String> = phones
        .iter()
        .map(|phone| match &phone.key {
            Ok(key) => format!("{} digits", key.digits()),
            Err(why) => format!("not taken: {why}"),
        })
        .collect();
    said.join(", ")
}

/// The authenticator of an `otpauth://totp/ISSUER:NAME?secret=...` address.
fn phone_of(address: &str, from: &str) -> Phone {
    let rest = address.strip_prefix("otpauth://").unwrap_or_default();
    let (kind, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let (label, query) = rest.split_once('?').unwrap_or((rest, ""));
    let label = percent_encoding::percent_decode_str(label).decode_utf8_lossy().into_owned();
    // The issuer holds no colon, as the format has it; Authelia writes it even where it is empty.
    let (issuer, name) = label.split_once(':').unwrap_or(("", &label));
    let fields: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let field = |key: &str, default: &str| fields.get(key).map_or(default, String::as_str).to_owned();
    let key = match kind {
        "totp" => {
            let seed = Secret::new(field("secret", ""));
            BASE32_NOPAD
                .decode(seed.expose().trim_end_matches('=').to_ascii_uppercase().as_bytes())
                .map_err(|_| "its seed is no base32".to_owned())
                .and_then(|seed| {
                    key_of(seed, &field("digits", "6"), &field("period", "30"), &field("algorithm", "SHA1"))
                })
        }
        _ => Err(format!("{} is no kind of code that the gate knows", crate::domain::audit::printable(kind))),
    };
    Phone { name: name.trim().to_owned(), key, label: label_of(issuer, from) }
}

/// A `totp_configurations` entry of Authelia's YAML export: the seed is the base64 of its base32.
pub fn phone_of_export(name: &str, secret: &str, digits: &str, period: &str, algorithm: &str, issuer: &str) -> Phone {
    let seed = BASE64.decode(secret.as_bytes()).ok().and_then(|text| {
        let text = Secret::new(String::from_utf8(text).ok()?);
        BASE32_NOPAD.decode(text.expose().trim_end_matches('=').to_ascii_uppercase().as_bytes()).ok()
    });
    let key = match seed {
        Some(seed) => key_of(seed, digits, period, algorithm),
        None => Err("its seed cannot be read".to_owned()),
    };
    Phone { name: name.to_owned(), key, label: label_of(issuer, "Authelia") }
}

fn key_of(seed: Vec<u8>, digits: &str, period: &str, digest: &str) -> Result<TotpKey, String> {
    let digits = digits.parse().map_err(|_| NotTakenOver::Digits.to_string())?;
    let period = period.parse().map_err(|_| NotTakenOver::Period.to_string())?;
    TotpKey::imported(seed, digits, period, digest).map_err(|why| why.to_string())
}

fn label_of(issuer: &str, from: &str) -> String {
    let name = if issuer.trim().is_empty() { from } else { issuer };
    display_text(name).ok().filter(|text| !text.is_empty()).unwrap_or_else(|| from.to_owned())
}

/// A line beside the answer, for whoever sits at the terminal.
pub fn note(line: &str) -> io::Result<()> {
    writeln!(io::stderr(), "stepgate: {line}")
}
