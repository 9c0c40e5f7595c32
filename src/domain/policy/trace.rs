//! What every rule said, for `explain`: nothing on the hot path.

use super::evaluate::Seen;
use super::rule::Rule;

/// Told about each rule, once the verdict is known. The hot path's sink does nothing and costs
/// nothing.
pub trait TraceSink {
    /// Whether anything is wanted at all.
    const ENABLED: bool;

    /// One rule of the policy, top to bottom, as the deciding reading met it.
    fn rule(&mut self, rule: &Rule, seen: Seen);

    /// The reading that decided: its path, its method, and whether it is an extra one.
    fn reading(&mut self, path: &str, method: &http::Method, extra: bool);
}

impl TraceSink for () {
    const ENABLED: bool = false;

    fn rule(&mut self, _rule: &Rule, _seen: Seen) {}

    fn reading(&mut self, _path: &str, _method: &http::Method, _extra: bool) {}
}

/// A trace as a table, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceTable {
    pub rows: Vec<TraceRow>,
    /// The path that decided, as the app may read it.
    pub path: String,
    pub method: String,
    /// It was not the plain reading: another letter case, no suffix, an overridden method.
    pub extra: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceRow {
    pub rule: String,
    pub file: String,
    pub line: u32,
    pub seen: Seen,
}

impl TraceSink for TraceTable {
    const ENABLED: bool = true;

    fn rule(&mut self, rule: &Rule, seen: Seen) {
        self.rows.push(TraceRow {
            rule: rule.name.as_str().to_owned(),
            file: rule.place.file.to_string(),
            line: rule.place.line,
            seen,
        });
    }

    fn reading(&mut self, path: &str, method: &http::Method, extra: bool) {
        path.clone_into(&mut self.path);
        method.as_str().clone_into(&mut self.method);
        self.extra = extra;
    }
}
