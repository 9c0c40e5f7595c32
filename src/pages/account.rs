//! What does a signed-in person see of their own account, and on the way out?

use serde::Serialize;

use super::enroll::Later;
use super::layout::{Destination, Hidden};
use super::samples;
use crate::base::clock::Timestamp;
use crate::domain::audit::{Action, AuditEvent, Outcome};
use crate::domain::factor::FactorKind;

/// Ways to sign in, where one is signed in, and what happened.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    pub hidden: Hidden,
    pub user: String,
    pub notice: Option<AccountNotice>,
    /// A second factor is still to be set up.
    pub later: Option<Later>,
    /// Those that the person may open, some of them after a further step; the section is left out when empty.
    pub apps: Vec<Destination>,
    pub password_set_at: Option<Timestamp>,
    pub ways: Vec<AccountWay>,
    pub backup: Option<BackupSummary>,
    /// Whether a token that counts may be set up here.
    pub counting: bool,
    /// Whether a number for codes may be set up here.
    pub texting: bool,
    pub sessions: Vec<AccountSession>,
    /// The section is left out when empty.
    pub remembered: Vec<AccountRemembered>,
    /// Newest first; the section is left out when empty.
    pub history: Vec<HistoryRow>,
}

/// A line after something was done, or refused.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AccountNotice {
    WayAdded,
    WayRemoved,
    CodesMade,
    PasswordChanged,
    SessionEnded,
    Forgotten,
    OthersEnded {
        n: u64,
    },
    /// The only way that an app of theirs takes: it stays.
    LastWay,
}

/// An authenticator. Posts `remove` with its id, to `account/factors`.
#[derive(Clone, Debug, Serialize)]
pub struct AccountWay {
    pub id: String,
    pub kind: FactorKind,
    pub label: String,
    pub added_at: Timestamp,
    pub used_at: Option<Timestamp>,
    /// Off after too many wrong codes in a row; only removing it is left.
    pub disabled: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct BackupSummary {
    pub left: u32,
    pub made: u32,
    pub made_at: Timestamp,
}

/// A sign-in that lasts. Posts `end` with its id, or `end=others`, to `account/sessions`.
#[derive(Clone, Debug, Serialize)]
pub struct AccountSession {
    pub id: String,
    pub client: Client,
    pub address: String,
    pub since: Timestamp,
    pub seen: Timestamp,
    pub this: bool,
}

/// A browser that is asked for no second factor. Posts `forget` with its id, or `forget=all`, to `account/remembered`.
#[derive(Clone, Debug, Serialize)]
pub struct AccountRemembered {
    pub id: String,
    pub client: Client,
    pub address: String,
    pub since: Timestamp,
    pub used: Timestamp,
    pub until: Timestamp,
}

/// A browser and its system, as far as its `User-Agent` tells; both only help to recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Client {
    pub browser: Option<&'static str>,
    pub system: Option<&'static str>,
    pub phone: bool,
}

impl Client {
    #[must_use]
    pub fn from_agent(agent: &str) -> Self {
        // Order matters: Edge and Opera also say Chrome, and Chrome also says Safari.
        let browsers = [
            ("Edg", "Edge"),
            ("OPR/", "Opera"),
            ("SamsungBrowser", "Samsung Internet"),
            ("Firefox", "Firefox"),
            ("FxiOS", "Firefox"),
            ("Chrome", "Chrome"),
            ("CriOS", "Chrome"),
            ("Safari", "Safari"),
            ("curl/", "curl"),
        ];
        let systems = [
            ("Android", "Android"),
            ("iPhone", "iPhone"),
            ("iPad", "iPad"),
            ("Windows", "Windows"),
            ("Mac OS X", "Mac"),
            ("CrOS", "ChromeOS"),
            ("Linux", "Linux"),
        ];
        let first = |list: &[(&str, &'static str)]| list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, n)| *n);
        let system = first(&systems);
        Self { browser: first(&browsers), system, phone: matches!(system, Some("Android" | "iPhone")) }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct HistoryRow {
    pub at: Timestamp,
    pub what: HistoryKind,
    pub app: Option<String>,
    pub address: Option<String>,
}

/// What of the audit trail a person is shown of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    SignedIn,
    Confirmed,
    SignedOut,
    SessionEnded,
    WrongPassword,
    WrongCode,
    Refused,
    WayAdded,
    WayRemoved,
    WaysReset,
    WayOff,
    CodesMade,
    PasswordChanged,
    LinkUsed,
    DeviceRemembered,
    DeviceForgotten,
    DeviceCopied,
}

impl HistoryRow {
    /// `None` for what is no news to the person.
    #[must_use]
    pub fn of(event: &AuditEvent) -> Option<Self> {
        use HistoryKind as Kind;
        let what = match (event.action, event.outcome) {
            (Action::SignIn, Outcome::Success) => Kind::SignedIn,
            (Action::StepUp, Outcome::Success) => Kind::Confirmed,
            (Action::SignOut, Outcome::Success) => Kind::SignedOut,
            (Action::SessionEnd, Outcome::Success) => Kind::SessionEnded,
            (Action::PasswordVerify, Outcome::Failure | Outcome::Refused) => Kind::WrongPassword,
            (Action::FactorVerify, Outcome::Failure | Outcome::Refused) => Kind::WrongCode,
            (Action::AccessDeny, _) => Kind::Refused,
            (Action::FactorEnroll, Outcome::Success) => Kind::WayAdded,
            (Action::FactorRemove, Outcome::Success) => Kind::WayRemoved,
            (Action::FactorReset, Outcome::Success) => Kind::WaysReset,
            (Action::FactorDisable, Outcome::Success) => Kind::WayOff,
            (Action::BackupCodesCreate, Outcome::Success) => Kind::CodesMade,
            (Action::PasswordChange, Outcome::Success) => Kind::PasswordChanged,
            (Action::LinkUse, Outcome::Success) => Kind::LinkUsed,
            (Action::DeviceRemember, Outcome::Success) => Kind::DeviceRemembered,
            (Action::DeviceForget, Outcome::Success) => Kind::DeviceForgotten,
            (Action::DeviceCopied, Outcome::Refused) => Kind::DeviceCopied,
            _ => return None,
        };
        Some(Self { at: event.at, what, app: event.app.clone(), address: event.address.clone() })
    }
}

/// Asks before it ends anything: a GET never does (another site could link here). Posts to
/// `logout`, or to `logout/everywhere`.
#[derive(Clone, Debug, Serialize)]
pub struct SignOut {
    pub hidden: Hidden,
    pub app: Option<Destination>,
    pub user: String,
    /// Other devices that are signed in.
    pub others: u32,
}

/// Nobody is signed in here any more.
#[derive(Clone, Debug, Serialize)]
pub struct SignedOut {
    pub why: SignedOutWhy,
    /// The app one came from, to sign in to again.
    pub app: Option<Destination>,
    /// The sealed way back there.
    pub rd: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignedOutWhy {
    ByYou,
    Everywhere,
    Idle,
    Ended,
    /// There was no session to end.
    NotSignedIn,
}

impl Account {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: Hidden { flow: None, rd: None, ..samples::hidden() },
            user: "ann".to_owned(),
            notice: None,
            later: None,
            apps: vec![samples::payroll()],
            password_set_at: Some(samples::earlier(380_000)),
            ways: vec![
                AccountWay {
                    id: "w0".to_owned(),
                    kind: FactorKind::Webauthn,
                    label: "Blue key".to_owned(),
                    added_at: samples::earlier(80_000),
                    used_at: None,
                    disabled: false,
                },
                AccountWay {
                    id: "w1".to_owned(),
                    kind: FactorKind::Totp,
                    label: "Ann’s phone".to_owned(),
                    added_at: samples::earlier(980_000),
                    used_at: Some(samples::earlier(319)),
                    disabled: false,
                },
                AccountWay {
                    id: "w3".to_owned(),
                    kind: FactorKind::Hotp,
                    label: "Grey token".to_owned(),
                    added_at: samples::earlier(985_000),
                    used_at: Some(samples::earlier(70_000)),
                    disabled: false,
                },
                AccountWay {
                    id: "w4".to_owned(),
                    kind: FactorKind::Sms,
                    label: "+49…89".to_owned(),
                    added_at: samples::earlier(970_000),
                    used_at: None,
                    disabled: false,
                },
                AccountWay {
                    id: "w2".to_owned(),
                    kind: FactorKind::Totp,
                    label: "Old tablet".to_owned(),
                    added_at: samples::earlier(990_000),
                    used_at: None,
                    disabled: true,
                },
            ],
            backup: Some(BackupSummary { left: 7, made: 10, made_at: samples::earlier(980_000) }),
            counting: true,
            texting: true,
            sessions: vec![
                session("s1", "Mozilla/5.0 (Windows NT 10.0; Win64) Firefox/140.0", 319, true),
                session("s2", "Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36", 1050, false),
                session("s3", "unknown", 2000, false),
                session("s4", "curl/8.5", 2500, false),
            ],
            remembered: Vec::new(),
            history: history(),
        };
        let bare = Self {
            password_set_at: None,
            ways: Vec::new(),
            backup: None,
            counting: false,
            texting: false,
            sessions: vec![session("s1", "Mozilla/5.0 (X11; Linux x86_64)", 1, true)],
            history: Vec::new(),
            ..plain()
        };
        let in_grace = |days: u64| {
            let later = Later { until: samples::later(days * 24 * 60), days, app: None };
            Self { later: Some(later), ways: Vec::new(), backup: None, ..plain() }
        };
        let remembered = AccountRemembered {
            id: "r1".to_owned(),
            client: Client::from_agent("Mozilla/5.0 (Windows NT 10.0; Win64) Firefox/140.0"),
            address: "203.0.113.9".to_owned(),
            since: samples::earlier(9000),
            used: samples::earlier(319),
            until: samples::later(34_000),
        };
        let remembered = Self {
            remembered: vec![remembered.clone(), AccountRemembered { id: "r2".to_owned(), ..remembered }],
            ..plain()
        };
        let noted = |notice| Self { notice: Some(notice), ..plain() };
        vec![
            ("plain", plain()),
            ("bare", bare),
            (
                "few-codes",
                Self {
                    backup: Some(BackupSummary { left: 2, made: 10, made_at: samples::earlier(9000) }),
                    ..noted(AccountNotice::WayAdded)
                },
            ),
            ("grace", in_grace(12)),
            ("grace-last-day", in_grace(1)),
            ("remembered", remembered),
            ("no-codes", Self { backup: None, ..plain() }),
            (
                "last-code",
                Self { backup: Some(BackupSummary { left: 1, made: 10, made_at: samples::earlier(9000) }), ..plain() },
            ),
            ("way-removed", noted(AccountNotice::WayRemoved)),
            ("codes-made", noted(AccountNotice::CodesMade)),
            ("password-changed", noted(AccountNotice::PasswordChanged)),
            ("forgotten", noted(AccountNotice::Forgotten)),
            ("session-ended", noted(AccountNotice::SessionEnded)),
            ("others-ended", noted(AccountNotice::OthersEnded { n: 2 })),
            ("other-ended", noted(AccountNotice::OthersEnded { n: 1 })),
            ("last-way", noted(AccountNotice::LastWay)),
        ]
    }
}

fn session(id: &str, agent: &str, minutes_ago: u64, this: bool) -> AccountSession {
    AccountSession {
        id: id.to_owned(),
        client: Client::from_agent(agent),
        address: "203.0.113.9".to_owned(),
        since: samples::earlier(minutes_ago),
        seen: samples::earlier(minutes_ago / 8),
        this,
    }
}

fn history() -> Vec<HistoryRow> {
    use HistoryKind as Kind;
    let kinds = [
        Kind::SignedIn,
        Kind::Confirmed,
        Kind::SignedOut,
        Kind::SessionEnded,
        Kind::WrongPassword,
        Kind::WrongCode,
        Kind::Refused,
        Kind::WayAdded,
        Kind::WayRemoved,
        Kind::WaysReset,
        Kind::WayOff,
        Kind::CodesMade,
        Kind::PasswordChanged,
        Kind::LinkUsed,
        Kind::DeviceRemembered,
        Kind::DeviceForgotten,
        Kind::DeviceCopied,
    ];
    let row = |(what, ago): (Kind, u64)| HistoryRow {
        at: samples::earlier(319 + ago * 700),
        what,
        app: matches!(what, Kind::SignedIn | Kind::Confirmed | Kind::Refused).then(|| "Payroll".to_owned()),
        address: Some("203.0.113.9".to_owned()),
    };
    kinds.into_iter().zip(0..).map(row).collect()
}

impl SignOut {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = |others| Self {
            hidden: Hidden { flow: None, rd: None, ..samples::hidden() },
            app: Some(samples::payroll()),
            user: "ann".to_owned(),
            others,
        };
        vec![("plain", Self { app: None, ..plain(0) }), ("others", plain(2)), ("other", plain(1))]
    }
}

impl SignedOut {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let page = |why| Self { why, app: None, rd: None };
        let app = Self { app: Some(samples::payroll()), rd: Some("sample-rd".to_owned()), ..page(SignedOutWhy::ByYou) };
        vec![
            ("by-you", app),
            ("everywhere", page(SignedOutWhy::Everywhere)),
            ("idle", page(SignedOutWhy::Idle)),
            ("ended", page(SignedOutWhy::Ended)),
            ("not-signed-in", page(SignedOutWhy::NotSignedIn)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart_although_they_all_claim_to_be_each_other() {
        let edge =
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36 Edg/140.0";
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1";
        let named = |agent| {
            let client = Client::from_agent(agent);
            (client.browser, client.system, client.phone)
        };
        assert_eq!(named(edge), (Some("Edge"), Some("Windows"), false));
        assert_eq!(named(iphone), (Some("Safari"), Some("iPhone"), true));
        assert_eq!(named("\u{1}<script>"), (None, None, false));
    }
}
