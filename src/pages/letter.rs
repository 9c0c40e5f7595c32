//! What does a mail of ours say? Plain text, in the words of the pages; times in UTC, for a mail is read anywhere.

use jiff::tz::TimeZone;
use minijinja::Error;

use super::account::Client;
use super::layout::Site;
use super::{Pages, samples};
use crate::base::clock::Timestamp;
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome, Unfamiliar};
use crate::domain::notice::NoticeKind;

/// Of a name that somebody gave to a way to sign in: enough to know it by, too little for a story.
const LONGEST_LABEL: usize = 40;

/// Everything that can be written.
#[derive(Clone, Debug)]
pub enum Letter {
    /// Something happened to an account.
    Notice {
        notice: Box<NoticeText>,
        user: String,
        /// By which its reader says that it was not them. The only link in it (S-OOB-2).
        link: String,
        /// How long the link works.
        until: Timestamp,
    },
    /// A code to be typed where its person is signing in. No link.
    Code { user: String, code: String, until: Timestamp },
}

/// What a code in a text message is for: its reader is told, for a code that somebody else asked for looks like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeFor {
    SignIn,
    /// A step-up within a session.
    Confirm,
    /// To prove that the number is theirs.
    Number,
}

/// What a notice tells, in a mail and on the page of its link.
#[derive(Clone, Debug)]
pub struct NoticeText {
    pub kind: NoticeKind,
    pub event: AuditEvent,
    /// Backup codes that are left.
    pub codes_left: u32,
}

impl Pages {
    /// Subject and text of a mail.
    pub fn letter(&self, site: &Site, letter: &Letter) -> Result<(String, String), Error> {
        let words = self.words(site)?;
        let say = |key: &str, values: &[(&str, &str)]| words.plain(key, values);
        match letter {
            Letter::Notice { notice, user, link, until } => {
                let subject = say(&format!("mail.subject.{}", notice.kind.as_str()), &[("site", site.title.as_str())])?;
                let mut text = say("mail.hello", &[("user", user.as_str())])?;
                text.push_str("\n\n");
                text.push_str(&self.notice_sentence(site, notice)?);
                text.push_str("\n\n");
                if notice.kind == NoticeKind::EnrollReminder {
                    // Nothing happened that could have been somebody else, and no link leads anywhere: a mail that
                    // asks people to set up their sign-in is what a copy of it would look like (S-OOB-2).
                    text.push_str(&say("mail.reminder_how", &[("site", site.title.as_str())])?);
                    text.push('\n');
                    if let Some(help) = &site.help {
                        text.push_str(&format!("\n{}\n", say("mail.help", &[("help", help.as_str())])?));
                    }
                    return Ok((subject, text));
                }
                for line in self.notice_facts(site, notice)? {
                    text.push_str(&line);
                    text.push('\n');
                }
                text.push('\n');
                text.push_str(&say("mail.yes", &[])?);
                text.push_str("\n\n");
                text.push_str(&say("mail.no", &[])?);
                text.push_str(&format!("\n{link}\n\n"));
                text.push_str(&say(
                    "mail.no_what",
                    &[("site", site.title.as_str()), ("until", moment(site, *until).as_str())],
                )?);
                text.push('\n');
                if let Some(help) = &site.help {
                    text.push('\n');
                    text.push_str(&say("mail.help", &[("help", help.as_str())])?);
                    text.push('\n');
                }
                Ok((subject, text))
            }
            Letter::Code { user, code, until } => {
                // Not in the subject: that stands on locked screens.
                let subject = say("mail.subject.code", &[("site", site.title.as_str())])?;
                let mut text = say("mail.hello", &[("user", user.as_str())])?;
                text.push_str(&format!(
                    "\n\n{}\n\n    {code}\n\n",
                    say("mail.code", &[("site", site.title.as_str())])?
                ));
                text.push_str(&say("mail.code_until", &[("until", moment(site, *until).as_str())])?);
                text.push_str(&format!("\n\n{}\n", say("mail.code_unasked", &[("site", site.title.as_str())])?));
                if let Some(help) = &site.help {
                    text.push_str(&format!("\n{}\n", say("mail.help", &[("help", help.as_str())])?));
                }
                Ok((subject, text))
            }
        }
    }

    /// A code in a text message: the site, what it is for, how long it works; no link (S-OOB-2).
    pub fn text_of_code(&self, site: &Site, code: &str, what_for: CodeFor, until: Timestamp) -> Result<String, Error> {
        let key = match what_for {
            CodeFor::SignIn => "sms.sign_in",
            CodeFor::Confirm => "sms.confirm",
            CodeFor::Number => "sms.number",
        };
        let until = until.to_jiff().to_zoned_datetime(TimeZone::UTC).strftime("%H:%M UTC").to_string();
        let values = [("site", site.title.as_str()), ("code", code), ("until", until.as_str())];
        self.words(site)?.plain(key, &values)
    }

    /// To a number that codes are no longer sent to.
    pub fn text_of_leaving(&self, site: &Site) -> Result<String, Error> {
        let words = self.words(site)?;
        match &site.help {
            Some(help) => words.plain("sms.left_help", &[("site", site.title.as_str()), ("help", help.as_str())]),
            None => words.plain("sms.left", &[("site", site.title.as_str())]),
        }
    }

    /// The one sentence that says what happened.
    pub fn notice_sentence(&self, site: &Site, notice: &NoticeText) -> Result<String, Error> {
        let words = self.words(site)?;
        let key = format!("mail.what.{}", notice.kind.as_str());
        let factor = notice.event.factor.as_deref().map_or_else(String::new, called);
        match notice.kind {
            NoticeKind::BackupCodeUsed => words.plain(&key, &[("n", notice.codes_left.to_string().as_str())]),
            NoticeKind::FactorAdded | NoticeKind::FactorRemoved | NoticeKind::FactorEnded => {
                words.plain(&key, &[("factor", factor.as_str())])
            }
            NoticeKind::NewDevice
            | NoticeKind::NewPlace
            | NoticeKind::WrongCodes
            | NoticeKind::KeyCopied
            | NoticeKind::FactorsReset
            | NoticeKind::CodesMade
            | NoticeKind::PasswordChanged
            | NoticeKind::LinkMade
            | NoticeKind::LinkUsed
            | NoticeKind::EnrollReminder
            | NoticeKind::DeviceRemembered
            | NoticeKind::DeviceCopied
            | NoticeKind::EmailChanged => words.plain(&key, &[]),
        }
    }

    /// When, from where, with what, by whom; one line each.
    pub fn notice_facts(&self, site: &Site, notice: &NoticeText) -> Result<Vec<String>, Error> {
        let words = self.words(site)?;
        let event = &notice.event;
        let mut lines = vec![words.plain("mail.when", &[("when", moment(site, event.at).as_str())])?];
        if let Some(address) = &event.address {
            lines.push(words.plain("mail.address", &[("address", address.as_str())])?);
        }
        if let Some(agent) = event.user_agent.as_deref() {
            let device = device(agent).map_or_else(|| words.plain("client.unknown", &[]), Ok)?;
            lines.push(words.plain("mail.device", &[("device", device.as_str())])?);
        }
        if matches!(event.actor, Actor::Operator { .. }) {
            lines.push(words.plain("mail.operator", &[("site", site.title.as_str())])?);
        }
        Ok(lines)
    }
}

/// A browser as people call it. Never the words of its own: whoever has the password would write sentences into
/// our mail with them.
fn device(agent: &str) -> Option<String> {
    let client = Client::from_agent(agent);
    match (client.browser, client.system) {
        (Some(browser), Some(system)) => Some(format!("{browser}, {system}")),
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        (None, None) => None,
    }
}

/// What somebody called a way to sign in, as far as it leads nobody anywhere: whoever gets so far as to add one
/// chooses its name, and mail programs make links of what looks like an address.
fn called(label: &str) -> String {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '\'' | '\u{2019}' | '(' | ')');
    let plain: String = label.chars().take(LONGEST_LABEL).map(|c| if word(c) { c } else { ' ' }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In UTC: a mail is read anywhere.
fn moment(site: &Site, at: Timestamp) -> String {
    let (_, format) = site.language.formats();
    format!("{} UTC", at.to_jiff().to_zoned_datetime(TimeZone::UTC).strftime(format))
}

impl NoticeText {
    pub(super) fn sample(kind: NoticeKind) -> Self {
        let (id, name) = (crate::base::ids::UserId::nil(), "ann".to_owned());
        let (actor, action) = match kind {
            NoticeKind::FactorsReset | NoticeKind::LinkMade | NoticeKind::EnrollReminder | NoticeKind::EmailChanged => {
                (Actor::Operator { account: "root".to_owned() }, Action::FactorReset)
            }
            _ => (Actor::User { id, name }, Action::SignIn),
        };
        let mut event = AuditEvent::new(samples::earlier(3), actor, action, Outcome::Success, "Signed in.");
        event.unfamiliar = Some(Unfamiliar::Device);
        event.factor = Some("My new phone".to_owned());
        if action == Action::SignIn {
            event.address = Some("203.0.113.9".to_owned());
            event.user_agent =
                Some("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0".to_owned());
        }
        Self { kind, event, codes_left: 7 }
    }
}

impl Letter {
    /// Every mail, by name: what tests write and people look at.
    #[must_use]
    pub fn samples() -> Vec<(String, Self)> {
        let letter = |notice| Self::Notice {
            notice: Box::new(notice),
            user: "ann".to_owned(),
            link: "https://login.corp.example/.stepgate/not-me?code=sample".to_owned(),
            until: samples::later(7 * 24 * 60),
        };
        let mut all: Vec<(String, Self)> = NoticeKind::ALL
            .into_iter()
            .map(|kind| (kind.as_str().to_owned(), letter(NoticeText::sample(kind))))
            .collect();
        let last = NoticeText { codes_left: 1, ..NoticeText::sample(NoticeKind::BackupCodeUsed) };
        let (user, code) = ("ann".to_owned(), "123456".to_owned());
        all.push(("code".to_owned(), Self::Code { user, code, until: samples::later(5) }));
        all.push(("backup_code_used.one-left".to_owned(), letter(last)));
        all
    }
}
