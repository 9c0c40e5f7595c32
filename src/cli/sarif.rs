//! What `check` finds, as SARIF 2.1.0 (OASIS): the form in which code hosts and editors take the findings of any
//! checker, with its place in the file.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};

use crate::base::version;
use crate::config::Fault;

/// What of a path stands in a URI as it is (RFC 3986 section 3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Of which kind a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fault,
    FailedTest,
    Warning,
    Untried,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Fault, Self::FailedTest, Self::Warning, Self::Untried];

    /// Stable: code hosts remember by it which findings were seen and which were dismissed.
    fn id(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::FailedTest => "failed-test",
            Self::Warning => "warning",
            Self::Untried => "untried-rule",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Fault => "The gate does not take this configuration.",
            Self::FailedTest => "A test in the files says something else than the policy.",
            Self::Warning => "It works, and is probably not what was meant.",
            Self::Untried => "No test in the files tries this rule.",
        }
    }

    fn level(self) -> &'static str {
        match self {
            Self::Fault | Self::FailedTest => "error",
            Self::Warning => "warning",
            Self::Untried => "note",
        }
    }
}

/// The whole document, with the findings in the order given.
pub(super) fn document<'a>(findings: impl IntoIterator<Item = (Kind, &'a Fault)>) -> Json {
    let rules = Kind::ALL.map(|kind| {
        json!({
            "id": kind.id(),
            "shortDescription": { "text": kind.sentence() },
            "defaultConfiguration": { "level": kind.level() },
        })
    });
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "stepgate", "version": version::VERSION, "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": findings.into_iter().map(|(kind, fault)| result(kind, fault)).collect::<Vec<_>>(),
        }],
    })
}

fn result(kind: Kind, fault: &Fault) -> Json {
    let hint = fault.hint.as_ref().map(|hint| format!(" - {hint}")).unwrap_or_default();
    let mut place = json!({ "artifactLocation": { "uri": uri(&fault.file) } });
    // Without a region the whole file is meant.
    if fault.line > 0 {
        place["region"] = json!({ "startLine": fault.line, "startColumn": fault.column.max(1) });
    }
    json!({
        "ruleId": kind.id(),
        "ruleIndex": Kind::ALL.iter().position(|k| *k == kind),
        "level": kind.level(),
        "message": { "text": format!("{}{hint}", fault.message) },
        "locations": [{ "physicalLocation": place }],
    })
}

/// A relative path stays one: whoever reads it knows the directory that `check` ran in.
fn uri(file: &str) -> String {
    let path = utf8_percent_encode(file.strip_prefix("./").unwrap_or(file), SEGMENT);
    if Path::new(file).is_absolute() { format!("file://{path}") } else { path.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_has_its_place_and_the_words_of_the_text_form() {
        let mut fault = Fault::of_file("apps.d/a b.yaml", "no {file: ...} here".into());
        assert!(result(Kind::Fault, &fault)["locations"][0]["physicalLocation"].get("region").is_none());
        (fault.line, fault.column, fault.hint) = (7, 3, Some("say so".into()));
        let expected = json!({
            "ruleId": "warning",
            "ruleIndex": 2,
            "level": "warning",
            "message": { "text": "no {file: ...} here - say so" },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": "apps.d/a%20b.yaml" },
                "region": { "startLine": 7, "startColumn": 3 },
            } }],
        });
        assert_eq!(result(Kind::Warning, &fault), expected);
        assert_eq!(uri("/etc/stepgate/ä.yaml"), "file:///etc/stepgate/%C3%A4.yaml");
        assert_eq!(uri("./config/stepgate.yaml"), "config/stepgate.yaml");
    }
}
