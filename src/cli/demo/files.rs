//! The files of the demo's state: written once, then the visitor's to change.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

const MAIN: &str = include_str!("stepgate.yaml");
const APP: &str = include_str!("directory.yaml");

/// Where the demo's files stand.
pub struct Files {
    pub main: PathBuf,
    app: PathBuf,
    people: PathBuf,
}

impl Files {
    /// Makes the directory and what is missing in it; a file that is there stays as it is.
    pub fn prepare(state: &Path, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<Self> {
        let files = Self {
            main: state.join("stepgate.yaml"),
            app: state.join("apps.d").join("directory.yaml"),
            people: state.join("people.json"),
        };
        let at = || format!("{} cannot be used as the demo's state", state.display());
        for dir in [state, &state.join("apps.d")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(at)?;
        }
        let fill = |text: &str| {
            text.replace("@LISTEN@", &listen.to_string())
                .replace("@PORT@", &listen.port().to_string())
                .replace("@UPSTREAM@", &upstream.to_string())
        };
        write_new(&files.main, &fill(MAIN)).with_context(at)?;
        write_new(&files.app, &fill(APP)).with_context(at)?;
        // Made here with the mode of its neighbours: it names people and what they read.
        write_new(&state.join("access.log"), "").with_context(at)?;
        Ok(files)
    }

    /// Points the files at this start's addresses; the visitor's other changes stay.
    pub fn point_at(&self, listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
        replace_marked(
            &self.main,
            "# demo: gate",
            &format!("  - {{ addr: \"{listen}\", role: proxy }}  # demo: gate"),
        )?;
        replace_marked(
            &self.main,
            "# demo: portal",
            &format!("  host: login.localhost:{}  # demo: portal", listen.port()),
        )?;
        replace_marked(
            &self.app,
            "# demo: host",
            &format!("hosts: [\"app.localhost:{}\"]  # demo: host", listen.port()),
        )?;
        replace_marked(
            &self.app,
            "# demo: legacy app",
            &format!("upstream: {{ urls: [\"http://{upstream}\"] }}  # demo: legacy app"),
        )
    }

    /// The people made at the first start, so that a later one can print them again.
    pub fn people(&self) -> anyhow::Result<Vec<Person>> {
        match fs::read_to_string(&self.people) {
            Ok(text) => serde_json::from_str(&text).context("people.json in the demo's state is damaged"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context("people.json in the demo's state cannot be read"),
        }
    }

    /// Replaced whole, so that a start that dies in between leaves the old or the new one.
    pub fn keep_people(&self, people: &[Person]) -> anyhow::Result<()> {
        let new = self.people.with_extension("new");
        let keep = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(serde_json::to_string_pretty(people)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &self.people)
        };
        keep().context("people.json in the demo's state cannot be written")
    }
}

/// Somebody who lives in the demo. A real gate never keeps a password: this is what the welcome
/// prints again at each start.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Person {
    pub name: String,
    pub password: String,
    pub otpauth: Option<String>,
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Replaces the one line that ends in `mark`. Without such a line the visitor has taken over.
fn replace_marked(path: &Path, mark: &str, line: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let new: String =
        text.lines().map(|old| if old.ends_with(mark) { line } else { old }).flat_map(|l| [l, "\n"]).collect();
    if new != text {
        fs::write(path, new).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_keeps_what_the_visitor_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:9000".parse().unwrap());
        let files = Files::prepare(dir.path(), a, b).unwrap();
        let edited = fs::read_to_string(&files.app).unwrap().replace("app: directory", "app: mine");
        fs::write(&files.app, &edited).unwrap();
        let c = "127.0.0.1:9001".parse().unwrap();
        Files::prepare(dir.path(), a, c).unwrap().point_at(a, c).unwrap();
        let now = fs::read_to_string(&files.app).unwrap();
        assert!(now.contains("app: mine") && now.contains("http://127.0.0.1:9001") && !now.contains(":9000"));
    }
}
