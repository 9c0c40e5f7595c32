//! `stepgate test`: what every test of the policy said, one by one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::Global;
use super::check::{exit, say, sound_files};
use crate::base::clock::{Clock, SystemClock};
use crate::config::expect::{PolicyTest, TestFailure};
use crate::config::{run_tests, untried};

/// Run the tests of the policy files.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Write the results as JUnit XML too, for CI; `-` prints them in place of the lines.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Exit 0 when all hold, 1 when one fails or the files are wrong.
pub fn run(args: &TestArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(snapshot) = sound_files(global)? else {
        say("the files have faults: no test was run")?;
        return Ok(exit(false));
    };
    let failures = run_tests(&snapshot, SystemClock.now());
    if args.junit.as_deref() == Some(Path::new("-")) {
        say(junit(&snapshot.tests, &failures).trim_end())?;
        return Ok(exit(failures.is_empty()));
    }
    for test in &snapshot.tests {
        match failure_of(test, &failures) {
            None => say(&format!("ok      {}", name(test)))?,
            Some(failure) => say(&format!("FAILED  {failure}"))?,
        }
    }
    for note in untried(&snapshot, SystemClock.now()) {
        say(&format!("note    {note}"))?;
    }
    let (all, failed) = (snapshot.tests.len(), failures.len());
    say(&format!("{all} tests, {failed} failed"))?;
    if let Some(path) = &args.junit {
        let xml = junit(&snapshot.tests, &failures);
        std::fs::write(path, xml).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(exit(failures.is_empty()))
}

fn failure_of<'a>(test: &PolicyTest, failures: &'a [TestFailure]) -> Option<&'a TestFailure> {
    failures.iter().find(|f| f.test.place == test.place)
}

/// The request and what is expected, as the file says it.
fn name(test: &PolicyTest) -> String {
    let mut text = format!("{}: {} {}", test.place, test.method, test.target);
    if let Some(user) = &test.user {
        let _ = write!(text, " as {user}");
    }
    if let Some(level) = &test.at {
        let _ = write!(text, " at {level}");
    }
    let _ = write!(text, ": {}", test.expect);
    text
}

fn junit(tests: &[PolicyTest], failures: &[TestFailure]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ =
        writeln!(xml, "<testsuite name=\"stepgate policy\" tests=\"{}\" failures=\"{}\">", tests.len(), failures.len());
    for test in tests {
        let (class, name) = (escape(test.app.as_str()), escape(&name(test)));
        let head = format!("  <testcase classname=\"{class}\" name=\"{name}\"");
        let _ = match failure_of(test, failures) {
            None => writeln!(xml, "{head}/>"),
            Some(failure) => {
                let message = escape(&format!("expected {}, got {} ({})", test.expect, failure.got, failure.because));
                writeln!(xml, "{head}><failure message=\"{message}\"/></testcase>")
            }
        };
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 cannot hold them, escaped or not.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
