//! How does the trail leave the gate? As lines for people, JSON lines, or CSV, all of them inert in
//! whatever opens them (S-ADM-3).

use std::io::{self, Write};

use serde_json::Value;

use crate::base::clock::Timestamp;
use crate::base::unseen::{escape_in_json, is_unseen};
use crate::domain::audit::{Actor, AuditEvent, printable};
use crate::store::{AuditFilter, AuditRow, Store, StoreError, actor_name};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line for each event, to read in a terminal.
    Lines,
    /// A paragraph for each event, one fact on each line: for the few that somebody asked about.
    Facts,
    /// One JSON object for each event: `seq`, the event's own fields, `hash`.
    JsonLines,
    /// RFC 4180, with a header.
    Csv,
}

/// Why an export stopped.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the trail cannot be read")]
    Store(#[from] StoreError),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// Rows to be written in one format.
#[derive(Debug)]
pub struct Page<'a> {
    pub format: Format,
    pub rows: &'a [AuditRow],
}

const COLUMNS: [&str; 20] = [
    "seq",
    "at",
    "actor_kind",
    "actor",
    "action",
    "outcome",
    "reason",
    "subject",
    "subject_name",
    "factor",
    "app",
    "rule",
    "told",
    "method",
    "path",
    "address",
    "user_agent",
    "session",
    "request",
    "hash",
];

/// Writes every row that the filter names, oldest first.
pub async fn export(
    store: &Store,
    filter: &AuditFilter,
    format: Format,
    out: &mut (impl Write + Send),
) -> Result<(), ExportError> {
    if format == Format::Csv {
        csv_line(out, COLUMNS.iter().map(|name| (*name).to_owned()))?;
    }
    let mut after = 0;
    loop {
        let rows = store.audit_rows(filter, after, 1000).await?;
        let Some(last) = rows.last() else { return Ok(out.flush()?) };
        after = last.seq;
        Page { format, rows: &rows }.write(out)?;
    }
}

impl Page<'_> {
    /// Writes the rows (no header).
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for row in self.rows {
            match self.format {
                Format::Lines => line(out, row)?,
                Format::Facts => facts(out, row)?,
                Format::JsonLines => json_line(out, row)?,
                Format::Csv => csv_line(out, cells(row).into_iter())?,
            }
        }
        Ok(())
    }
}

/// `at` is RFC 3339 here, as in every `--json`. The stored JSON escapes few control characters; whatever a terminal
/// or a log reader may act on is escaped as well, which JSON readers undo.
fn json_line(out: &mut impl Write, row: &AuditRow) -> io::Result<()> {
    let mut object = serde_json::Map::new();
    object.insert("seq".to_owned(), row.seq.into());
    match serde_json::from_str(&row.payload) {
        Ok(Value::Object(event)) => {
            object.extend(event);
            if let Some(at) = object.get("at").and_then(Value::as_i64) {
                object.insert("at".to_owned(), Timestamp::from_millis(at).to_string().into());
            }
        }
        // A row that someone broke is shown, not hidden; `audit verify` says what it is.
        _ => {
            object.insert("unreadable".to_owned(), Value::String(row.payload.clone()));
        }
    }
    object.insert("hash".to_owned(), data_encoding::HEXLOWER.encode(&row.hash).into());
    let text = serde_json::to_string(&Value::Object(object))?;
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unseen(c) {
            escape_in_json(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    writeln!(out, "{safe}")
}

fn line(out: &mut impl Write, row: &AuditRow) -> io::Result<()> {
    let Ok(event) = serde_json::from_str::<AuditEvent>(&row.payload) else {
        return writeln!(out, "row {} cannot be read: {}", row.seq, printable(&row.payload));
    };
    let actor = actor(&event);
    write!(out, "{}  {:<7}  {:<17}  {}", event.at, text(&event.outcome), event.action.name(), printable(&actor))?;
    if let Some(subject) = &event.subject_name {
        write!(out, " -> {}", printable(subject))?;
    }
    write!(out, "  {}", printable(&event.reason))?;
    let session = event.session.map(|id| id.to_string());
    let request = event.request.map(|id| id.to_string());
    let asked = asked(&event);
    let details = [
        ("asked", &asked),
        ("factor", &event.factor),
        ("app", &event.app),
        ("rule", &event.rule),
        ("from", &event.address),
        ("session", &session),
        ("request", &request),
    ];
    for (name, value) in details {
        if let Some(value) = value {
            write!(out, "  {name}={}", printable(value))?;
        }
    }
    writeln!(out)
}

fn actor(event: &AuditEvent) -> String {
    match &event.actor {
        Actor::UnknownUser { name_hash } => format!("unknown name #{}", name_hash.get(..8).unwrap_or(name_hash)),
        Actor::System => "the gate".to_owned(),
        known => actor_name(known).unwrap_or_default().to_owned(),
    }
}

fn asked(event: &AuditEvent) -> Option<String> {
    let (method, path) = (event.method.as_ref()?, event.path.as_ref()?);
    Some(format!("{method} {path}"))
}

fn facts(out: &mut impl Write, row: &AuditRow) -> io::Result<()> {
    let Ok(event) = serde_json::from_str::<AuditEvent>(&row.payload) else { return line(out, row) };
    writeln!(out, "{}  {}  {}", event.at, event.action.name(), text(&event.outcome))?;
    let asked = asked(&event);
    let all = [
        ("who", Some(actor(&event))),
        ("about", event.subject_name),
        ("asked for", asked),
        ("app", event.app),
        ("rule", event.rule),
        ("was told", event.told),
        ("why", Some(event.reason)),
        ("factor", event.factor),
        ("from", event.address),
        ("with", event.user_agent),
        ("session", event.session.map(|id| id.to_string())),
        ("reference", event.request.map(|id| id.to_string())),
    ];
    for (name, value) in all {
        if let Some(value) = value {
            writeln!(out, "  {name:<9}  {}", printable(&value))?;
        }
    }
    Ok(())
}

fn cells(row: &AuditRow) -> Vec<String> {
    let hash = data_encoding::HEXLOWER.encode(&row.hash);
    let Ok(event) = serde_json::from_str::<AuditEvent>(&row.payload) else {
        let mut cells = vec![String::new(); COLUMNS.len()];
        let known = [(0, row.seq.to_string()), (6, format!("unreadable: {}", row.payload)), (19, hash)];
        for (column, value) in known {
            if let Some(cell) = cells.get_mut(column) {
                *cell = value;
            }
        }
        return cells;
    };
    let (kind, actor) = match &event.actor {
        Actor::User { name, .. } => ("user", name.clone()),
        Actor::UnknownUser { name_hash } => ("unknown_user", name_hash.clone()),
        Actor::Operator { account } => ("operator", account.clone()),
        Actor::System => ("system", String::new()),
    };
    vec![
        row.seq.to_string(),
        event.at.to_string(),
        kind.to_owned(),
        actor,
        event.action.name(),
        text(&event.outcome),
        event.reason,
        event.subject.map(|id| id.to_string()).unwrap_or_default(),
        event.subject_name.unwrap_or_default(),
        event.factor.unwrap_or_default(),
        event.app.unwrap_or_default(),
        event.rule.unwrap_or_default(),
        event.told.unwrap_or_default(),
        event.method.unwrap_or_default(),
        event.path.unwrap_or_default(),
        event.address.unwrap_or_default(),
        event.user_agent.unwrap_or_default(),
        event.session.map(|id| id.to_string()).unwrap_or_default(),
        event.request.map(|id| id.to_string()).unwrap_or_default(),
        hash,
    ]
}

/// One line of comma-separated values, inert in spreadsheets.
pub fn csv_line(out: &mut impl Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    let line = cells.map(|cell| csv_cell(&cell)).collect::<Vec<_>>().join(",");
    write!(out, "{line}\r\n")
}

/// A spreadsheet runs a cell that begins like a formula, quotes or not; an apostrophe in front makes
/// it text (OWASP: CSV injection).
fn csv_cell(cell: &str) -> String {
    let inert =
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) || cell.starts_with(['＝', '＋', '－', '＠']) {
            format!("'{cell}")
        } else {
            cell.to_owned()
        };
    if inert.contains([',', '"', '\r', '\n', ';', '\t']) || inert != inert.trim() {
        format!("\"{}\"", inert.replace('"', "\"\""))
    } else {
        inert
    }
}

/// The name of a unit variant as serde writes it.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Action, Outcome};

    fn row(change: impl FnOnce(&mut AuditEvent)) -> AuditRow {
        let actor = Actor::Operator { account: "root".into() };
        let at = Timestamp::from_secs(1_800_000_000);
        let mut event = AuditEvent::new(at, actor, Action::UserAdd, Outcome::Success, "An account was added.");
        change(&mut event);
        AuditRow {
            seq: 7,
            at: event.at.as_millis(),
            action: event.action.name(),
            actor: None,
            subject: None,
            payload: serde_json::to_string(&event).unwrap(),
            prev: vec![0; 32],
            hash: vec![0xab; 32],
        }
    }

    fn written(format: Format, row: AuditRow) -> String {
        let mut out = Vec::new();
        Page { format, rows: &[row] }.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn s_adm_3_a_cell_that_begins_like_a_formula_is_text() {
        for (given, shown) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\"'\t=1\""),
            ("=1,2", "\"'=1,2\""),
            ("a\"b", "\"a\"\"b\""),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(csv_cell(given), shown);
        }
        let line = written(Format::Csv, row(|e| e.user_agent = Some("=HYPERLINK(\"http://x\")".into())));
        assert!(line.contains("\"'=HYPERLINK(\"\"http://x\"\")\""), "{line}");
    }

    #[test]
    fn s_log_3_nothing_in_a_row_moves_a_terminal() {
        let evil = "a\u{1b}[2J\u{202e}b\u{2028}\nc\u{9b}2J\u{61c}\u{e0041}";
        let hostile = || {
            row(|e| {
                e.subject_name = Some(evil.into());
                e.user_agent = Some(evil.into());
                e.reason = evil.into();
                e.actor = Actor::Operator { account: evil.into() };
                e.rule = Some(evil.into());
                (e.told, e.method, e.path) = (Some(evil.into()), Some(evil.into()), Some(evil.into()));
            })
        };
        for format in [Format::Lines, Format::Facts, Format::JsonLines] {
            let text = written(format, hostile());
            let text = if format == Format::Facts { text.replace("\n  ", "") } else { text };
            assert!(!text.trim_end_matches('\n').chars().any(is_unseen), "{text:?}");
        }
        let json: Value = serde_json::from_str(&written(Format::JsonLines, hostile())).unwrap();
        assert_eq!(json["reason"], evil, "JSON readers get what was written");
        assert_eq!((json["seq"].as_i64(), json["action"].as_str()), (Some(7), Some("user_add")));
        assert_eq!(json["at"], "2027-01-15T08:00:00.000Z");
    }

    #[test]
    fn a_line_reads_as_a_sentence() {
        let line = written(Format::Lines, row(|e| e.subject_name = Some("ann".into())));
        assert_eq!(line, "2027-01-15T08:00:00.000Z  success  user_add           root -> ann  An account was added.\n");
    }

    #[test]
    fn csv_has_one_cell_for_each_column() {
        assert_eq!(cells(&row(|_| {})).len(), COLUMNS.len());
        let broken = AuditRow { payload: "{".into(), ..row(|_| {}) };
        assert_eq!(cells(&broken).len(), COLUMNS.len());
    }
}
