//! Was the trail changed by other hands than the gate's? Every row, every link and the head.

use std::fmt;

use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEvent;
use crate::store::{AuditFilter, AuditHead, AuditRow, Store, StoreError, actor_name};

/// What does not fit. `seq` is the row's number; rows are numbered from 1 without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The row's content is not what was written.
    Edited {
        seq: i64,
    },
    /// The row is genuine or not, but the one before it is another than when it was written.
    Unlinked {
        seq: i64,
    },
    /// Rows are gone.
    Missing {
        first: i64,
        last: i64,
    },
    /// Rows at the end are gone.
    CutOff {
        first: i64,
        last: i64,
    },
    /// There are more rows than the gate wrote.
    Added {
        first: i64,
        last: i64,
    },
    HeadMissing,
    /// The record of how many rows there are was changed.
    HeadChanged,
    /// The trail is not the one that the anchor was taken from: it was replaced as a whole, for
    /// instance by an older copy.
    OtherTrail {
        seq: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edited { seq } => write!(f, "row {seq} was edited"),
            Self::Unlinked { seq } => write!(f, "row {seq} does not follow the row before it"),
            Self::Missing { first, last } if first == last => write!(f, "row {first} was removed"),
            Self::Missing { first, last } => write!(f, "rows {first} to {last} were removed"),
            Self::CutOff { first, last } => write!(f, "rows {first} to {last} were cut off at the end"),
            Self::Added { first, last } => write!(f, "rows {first} to {last} were not written by the gate"),
            Self::HeadMissing => f.write_str("the record of the trail's end was removed"),
            Self::HeadChanged => f.write_str("the record of the trail's end was changed"),
            Self::OtherTrail { seq } => write!(f, "row {seq} is not the one that was noted: this is another trail"),
        }
    }
}

/// A row number and its hash, noted earlier and kept elsewhere. Whoever can write to the database
/// can put back an older copy of all of it, head included; only a note kept elsewhere shows that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub seq: i64,
    pub hash: Vec<u8>,
}

impl Anchor {
    /// Reads `SEQ:HASH` as `audit verify` prints it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.split_once(':')?;
        let seq = seq.parse().ok().filter(|seq| *seq >= 0)?;
        let hash = data_encoding::HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).ok()?;
        (hash.len() == 32).then_some(Self { seq, hash })
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, data_encoding::HEXLOWER.encode(&self.hash))
    }
}

/// What was looked at and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub rows: u64,
    /// The last row, to note down elsewhere; `None` for an empty trail.
    pub last: Option<Anchor>,
    /// At most [`MOST`]; empty when the trail is whole.
    pub findings: Vec<Finding>,
}

/// More findings than this help nobody.
pub const MOST: usize = 100;
const PAGE: u32 = 1000;

/// Walks the whole trail. May run beside a `serve` that goes on writing: rows that came while it
/// walked are judged by the head as it is at the end.
pub async fn verify(store: &Store, anchor: Option<&Anchor>) -> Result<Report, StoreError> {
    let before = store.audit_head().await?;
    let mut walk = Walk::new(store.chain(), before.as_ref(), anchor);
    // From below the first row: somebody may have hidden one there.
    let mut after_seq = i64::MIN;
    loop {
        let page = store.audit_rows(&AuditFilter::default(), after_seq, PAGE).await?;
        let Some(last) = page.last() else { break };
        after_seq = last.seq;
        page.iter().for_each(|row| walk.step(row));
    }
    let after = store.audit_head().await?;
    Ok(walk.finish(after.as_ref()))
}

struct Walk<'a> {
    chain: &'a ChainKey,
    before: Option<&'a AuditHead>,
    anchor: Option<&'a Anchor>,
    anchor_met: bool,
    rows: u64,
    /// The last number seen.
    at: i64,
    last: Option<Vec<u8>>,
    findings: Vec<Finding>,
}

impl<'a> Walk<'a> {
    fn new(chain: &'a ChainKey, before: Option<&'a AuditHead>, anchor: Option<&'a Anchor>) -> Self {
        // Number 0 stands for "before the first row"; an anchor there says nothing.
        let anchor_met = anchor.is_none_or(|anchor| anchor.seq == 0);
        Self { chain, before, anchor, anchor_met, rows: 0, at: 0, last: None, findings: Vec::new() }
    }

    fn found(&mut self, finding: Finding) {
        if self.findings.len() < MOST {
            self.findings.push(finding);
        }
    }

    fn step(&mut self, row: &AuditRow) {
        self.rows += 1;
        if row.seq < 1 {
            return self.found(Finding::Added { first: row.seq, last: row.seq });
        }
        let expected = self.at + 1;
        if row.seq != expected {
            self.found(Finding::Missing { first: expected, last: row.seq - 1 });
        } else {
            let follows = match &self.last {
                Some(last) => *last == row.prev,
                None => self.chain.is_genesis(&row.prev),
            };
            if !follows {
                self.found(Finding::Unlinked { seq: row.seq });
            }
        }
        if !self.chain.is_link(&row.prev, row.seq, &row.payload, &row.hash) || !columns_fit(row) {
            self.found(Finding::Edited { seq: row.seq });
        }
        if self.before.is_some_and(|head| head.seq == row.seq && head.hash != row.hash) {
            self.found(Finding::HeadChanged);
        }
        if self.anchor.is_some_and(|anchor| anchor.seq == row.seq && anchor.hash == row.hash) {
            self.anchor_met = true;
        }
        self.at = row.seq;
        self.last = Some(row.hash.clone());
    }

    fn finish(mut self, after: Option<&AuditHead>) -> Report {
        match (self.before, after) {
            (Some(before), Some(after)) => {
                for head in [before, after] {
                    let mac = self.chain.is_head(head.seq, &head.hash, &head.mac);
                    if !mac && !self.findings.contains(&Finding::HeadChanged) {
                        self.found(Finding::HeadChanged);
                    }
                }
                if self.at < before.seq {
                    self.found(Finding::CutOff { first: self.at + 1, last: before.seq });
                }
                if self.at > after.seq {
                    self.found(Finding::Added { first: after.seq + 1, last: self.at });
                }
            }
            _ => self.found(Finding::HeadMissing),
        }
        if let Some(anchor) = self.anchor.filter(|_| !self.anchor_met) {
            self.found(Finding::OtherTrail { seq: anchor.seq });
        }
        let last = self.last.map(|hash| Anchor { seq: self.at, hash });
        Report { rows: self.rows, last, findings: self.findings }
    }
}

/// The columns for searching are not hashed; they must say what the hashed payload says, or a row
/// could be hidden from `--user` and `--since`.
fn columns_fit(row: &AuditRow) -> bool {
    let Ok(event) = serde_json::from_str::<AuditEvent>(&row.payload) else { return false };
    row.at == event.at.as_millis()
        && row.action == event.action.name()
        && row.actor.as_deref() == actor_name(&event.actor)
        && row.subject == event.subject_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_reads_as_it_is_printed() {
        let anchor = Anchor { seq: 12, hash: vec![0xab; 32] };
        assert_eq!(Anchor::parse(&anchor.to_string()), Some(anchor));
        for bad in ["", "12", "12:ab", "-1:00", "x:y"] {
            assert_eq!(Anchor::parse(bad), None, "{bad}");
        }
    }
}
