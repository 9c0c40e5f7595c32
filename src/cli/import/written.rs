//! Our files as an import writes them: every point at which something was lost is a comment at its place.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::config::{self, Fault, Purpose, SchemaKind};
use crate::domain::audit::printable;

/// A whole configuration.
#[derive(Default)]
pub struct Written {
    /// The main file without `apps` and `include`.
    pub main: Vec<String>,
    pub apps: Vec<App>,
}

pub struct App {
    pub name: String,
    /// Its keys before `rules`.
    pub head: Vec<String>,
    pub rules: Vec<Line>,
}

/// A rule that was taken out, for another holds for all that it does.
pub struct Hidden {
    pub app: String,
    pub rule: String,
    /// The name of the other.
    pub over: String,
}

/// One rule, on one line, so that a fault's line names it.
#[derive(Clone)]
pub struct Line {
    pub comments: Vec<String>,
    /// `None` where the comment is all that is left of it.
    pub rule: Option<String>,
}

impl Written {
    /// As one file.
    pub fn whole(&self) -> String {
        let mut lines = self.main.clone();
        if !self.apps.is_empty() {
            lines.push("apps:".to_owned());
        }
        for app in &self.apps {
            let indented = app.lines().into_iter().enumerate().map(|(i, line)| match (i, line.is_empty()) {
                (0, _) => format!("- {line}"),
                (_, true) => line,
                (_, false) => format!("  {line}"),
            });
            lines.extend(indented);
        }
        lines.join("\n") + "\n"
    }

    /// Takes out what can never be reached, which the other system takes in silence and ours refuses. Answers
    /// the faults that are left, and what was taken out.
    pub fn settle(&mut self) -> (Vec<Fault>, Vec<Hidden>) {
        let mut all = Vec::new();
        loop {
            let faults = match config::from_text(&self.whole(), Path::new("."), Purpose::Check) {
                Ok(_) => return (Vec::new(), all),
                Err(faults) => faults,
            };
            let hidden = faults.iter().find(|fault| fault.message.contains("can never be reached"));
            match hidden.and_then(|hidden| self.leave_out(hidden)) {
                Some(hidden) => all.push(hidden),
                None => return (faults, all),
            }
        }
    }

    /// Makes a comment of the rule that a fault of [`Self::whole`] is about.
    fn leave_out(&mut self, fault: &Fault) -> Option<Hidden> {
        // Of the two names in the sentence the second; its line is one of the text that was checked, of no file.
        let over = fault.message.split('"').nth(3)?.to_owned();
        let mut line = self.main.len() + 1;
        for app in &mut self.apps {
            line += app.head.len() + usize::from(!app.rules.is_empty());
            for rule in &mut app.rules {
                line += rule.comments.len() + usize::from(rule.rule.is_some());
                if rule.rule.is_some() && line == fault.line as usize {
                    rule.comments.push(format!("left out: {over} above it holds for all that it does"));
                    return Some(Hidden { app: app.name.clone(), rule: rule.rule.take()?, over });
                }
            }
        }
        None
    }

    /// Writes the files below `dir`; none that is there already is touched.
    pub fn write(&self, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        let line = |path: &str| format!("# yaml-language-server: $schema={path}");
        let mut main = vec![line("schema/stepgate.json")];
        main.extend(self.main.iter().cloned());
        if !self.apps.is_empty() {
            main.push("include: [apps.d/*.yaml]".to_owned());
        }
        files.push((dir.join("stepgate.yaml"), main.join("\n") + "\n"));
        for app in &self.apps {
            let mut lines = vec![line("../schema/app.json")];
            lines.extend(app.lines());
            files.push((dir.join("apps.d").join(format!("{}.yaml", app.name)), lines.join("\n") + "\n"));
        }
        for (kind, name) in [(SchemaKind::Main, "stepgate.json"), (SchemaKind::App, "app.json")] {
            files.push((dir.join("schema").join(name), format!("{:#}\n", config::schema(kind))));
        }
        if let Some((there, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
            bail!("{} is there already: an import never writes over a file; name another directory", there.display());
        }
        for (path, text) in &files {
            let parent = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .with_context(|| format!("writing {}", path.display()))?;
            file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }
}

impl App {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.head.clone();
        if !self.rules.is_empty() {
            lines.push("rules:".to_owned());
        }
        for rule in &self.rules {
            lines.extend(rule.comments.iter().map(|comment| format!("  # {}", printable_line(comment))));
            lines.extend(rule.rule.iter().map(|rule| format!("  - {rule}")));
        }
        // A list of comments alone would be nothing where a list must stand.
        if !self.rules.is_empty() && self.rules.iter().all(|rule| rule.rule.is_none()) {
            for line in lines.iter_mut().filter(|line| *line == "rules:") {
                "rules: []".clone_into(line);
            }
        }
        lines
    }
}

/// A text as YAML takes it between double quotes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A flow list of texts.
pub fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", items.into_iter().map(plain).collect::<Vec<_>>().join(", "))
}

/// A text as it stands, where YAML takes it so inside `[ ]` and `{ }`.
pub fn plain(text: &str) -> String {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_./:".contains(&b);
    let word = text.bytes().all(fine)
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
        );
    if word { text.to_owned() } else { quoted(text) }
}

/// Text of another file on one line of a comment.
fn printable_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

/// Text of another file for a table: cut where it is long.
pub fn short(text: &str) -> String {
    let text = printable(text);
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}
