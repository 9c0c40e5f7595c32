//! The commands as somebody types them, over the real program.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::store::{drop_database, scratch_database};

/// A directory with a configuration, and the program run in it.
pub(crate) struct Desk {
    dir: TempDir,
}

pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) const GOOD: &str = "version: 1\nlisten: [{ addr: \"127.0.0.1:8080\", role: proxy }]\n\
     portal: { host: \"login.localhost:8080\" }\nstate: state\napps:\n- app: wiki\n  hosts: [\"wiki.localhost:8080\"]\n\
     \x20 upstream: { urls: [\"http://127.0.0.1:9\"] }\n";

impl Desk {
    pub(crate) fn with(config: &str) -> Self {
        let desk = Self { dir: tempfile::tempdir().unwrap() };
        desk.write("stepgate.yaml", config);
        desk
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        command.args(line.split_whitespace()).current_dir(self.dir.path());
        command.env("STEPGATE_CONFIG", "stepgate.yaml").env("NO_COLOR", "1").env_remove("SUDO_USER");
        command
    }

    /// Runs a line of words; `input` is typed in.
    pub(crate) fn type_in(&self, line: &str, input: &str) -> Said {
        let mut child =
            self.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses before it reads has closed its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let out = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }

    pub(crate) fn run(&self, line: &str) -> Said {
        self.type_in(line, "")
    }

    /// As [`Self::run`]; it must go well.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {}{}", said.out, said.err);
        said.out
    }

    pub(crate) fn add(&self, name: &str) {
        let said = self.type_in(&format!("user add {name} --password-stdin"), "walks slowly home\n");
        assert_eq!(said.code, 0, "{}", said.err);
    }

    fn files(&self, name: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        let mut open = vec![self.path(name)];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|e| e == "yaml" || e == "json") {
                    let bytes = std::fs::read(&path).unwrap();
                    all.push((path, bytes));
                }
            }
        }
        all.sort();
        all
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_demo_in_the_same_directory_leaves_the_first_one_whole() {
    let desk = Desk::with(GOOD);
    let mut first = Running(
        desk.command("demo --listen 127.0.0.1:0 --state d")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let lines = BufReader::new(first.0.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("Stepgate is ready")));
    let before = desk.files("d");
    let second = desk.run("demo --listen 127.0.0.1:0 --state d");
    assert_eq!(second.code, 3, "{}", second.err);
    assert!(second.err.contains("stop it first") && second.err.contains("--state"), "{}", second.err);
    assert!(before == desk.files("d"), "the running demo reads these files again when they change");
}

const LOOKS: [&str; 11] = [
    "user list",
    "user show ann",
    "user disable ann",
    "user unpause ann",
    "factor list ann",
    "session list",
    "session end --all",
    "audit tail",
    "audit verify",
    "keys list",
    "user set-password ann --password-stdin",
];

#[test]
fn a_command_that_looks_at_a_state_never_makes_one() {
    let desk = Desk::with(GOOD);
    for line in LOOKS {
        let said = desk.run(line);
        assert_eq!(said.code, 3, "{line}: {}{}", said.out, said.err);
        assert!(said.err.contains("there is no state at"), "{line}: {}", said.err);
        assert!(!desk.path("state").exists(), "{line}");
    }
}

#[test]
fn a_new_key_ring_is_never_made_beside_an_old_database() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    std::fs::rename(desk.path("state/keyring.json"), desk.path("safe.json")).unwrap();
    for line in LOOKS.iter().chain(&["serve", "user add bob --link"]) {
        let said = desk.run(line);
        assert_eq!(said.code, 3, "{line}: {}{}", said.out, said.err);
        assert!(said.err.contains("keyring.json is missing"), "{line}: {}", said.err);
        assert!(!desk.path("state/keyring.json").exists(), "{line}");
    }
    std::fs::rename(desk.path("safe.json"), desk.path("state/keyring.json")).unwrap();
    assert!(desk.ok("user list").contains("ann"));
    assert!(desk.ok("audit verify").contains("whole"));
}

/// As if the ring had been made a month earlier.
fn age_the_ring(path: &Path) {
    let mut ring: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let created = &mut ring["keys"][0]["created"];
    *created = (created.as_i64().unwrap() - 30 * 86_400_000).into();
    std::fs::write(path, ring.to_string()).unwrap();
}

/// It would be an empty gate, and the next `user add` would give names of the lost one away.
#[test]
fn a_new_database_is_never_made_beside_an_old_key_ring() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    age_the_ring(&desk.path("state/keyring.json"));
    std::fs::rename(desk.path("state/stepgate.db"), desk.path("safe.db")).unwrap();
    for line in LOOKS.iter().chain(&["serve", "user add bob --link"]) {
        let said = desk.run(line);
        assert_eq!(said.code, 3, "{line}: {}{}", said.out, said.err);
        for part in ["stepgate.db holds nothing", "from its backup", "mv state/keyring.json"] {
            let text = said.err.replace(&format!("{}/", desk.dir.path().display()), "");
            assert!(text.contains(part), "{line}: {text}");
        }
        assert!(!desk.path("state/stepgate.db").exists(), "{line}");
    }
    let check = desk.run("check --serve");
    assert!(check.code == 1 && check.out.contains("holds nothing"), "{}{}", check.out, check.err);

    std::fs::rename(desk.path("safe.db"), desk.path("state/stepgate.db")).unwrap();
    assert!(desk.ok("user list").contains("ann"));
    // The way out that is told.
    std::fs::remove_file(desk.path("state/stepgate.db")).unwrap();
    std::fs::rename(desk.path("state/keyring.json"), desk.path("state/keyring.json.old")).unwrap();
    desk.add("bob");
    assert!(!desk.ok("user list").contains("ann"));
}

#[test]
fn an_empty_postgresql_is_not_filled_beside_an_old_key_ring() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some((server, database, url)) = runtime.block_on(scratch_database()) else { return };
    let desk = Desk::with(&format!("{GOOD}store: {{ url: {{ file: url }}, keys: {{ file: ring.json }} }}\n"));
    desk.write("url", &url);
    std::fs::set_permissions(desk.path("url"), std::fs::Permissions::from_mode(0o600)).unwrap();
    desk.add("ann");
    age_the_ring(&desk.path("ring.json"));
    assert!(desk.ok("user list").contains("ann"));
    let (_, empty, url) = runtime.block_on(scratch_database()).unwrap();
    desk.write("url", &url);
    for line in ["serve", "user add bob --link", "user list"] {
        let said = desk.run(line);
        assert_eq!(said.code, 3, "{line}: {}{}", said.out, said.err);
        assert!(said.err.contains("`store.url` holds nothing"), "{line}: {}", said.err);
    }
    for database in [database, empty] {
        runtime.block_on(drop_database(&server, &database));
    }
}

#[test]
fn a_state_that_was_cut_off_while_it_was_made_is_made_to_its_end() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    std::fs::remove_file(desk.path("state/stepgate.db")).unwrap();
    desk.add("ann");
}

#[test]
fn a_fault_in_the_policy_keeps_nobody_from_disabling_an_account() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    let faults = [
        GOOD.replace("app: wiki", "app: wiki\n  requir: mfa"),
        GOOD.replace("role: proxy", "role: proxy, tls: { certificates: nowhere }"),
        GOOD.replace("role: proxy", "role: proxxy"),
        format!("{GOOD}include: [broken.yaml]\n"),
        "state: state\n".to_owned(),
    ];
    desk.write("broken.yaml", "app: [");
    for text in &faults {
        desk.write("stepgate.yaml", text);
        for line in ["user disable ann", "user enable ann", "user list", "session list", "audit tail", "keys list"] {
            desk.ok(line);
        }
    }
    let warned = desk.run("user disable ann");
    assert!(warned.err.contains("warning: the configuration has") && warned.err.contains("stepgate check"));
    // What only the whole configuration can answer is refused, and nothing is made.
    assert_eq!(desk.run("user add bob --link").code, 1);
    assert_eq!(desk.run("user link ann").code, 1);
}

#[test]
fn a_fault_on_the_way_to_the_state_is_refused_and_says_the_way_out() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    for text in
        ["state: [", "state: 7\n", "state: state\nstate: other\n", "state: state\nstore: { url: postgres://x }\n"]
    {
        desk.write("stepgate.yaml", text);
        let said = desk.run("user list");
        assert_eq!(said.code, 1, "{text}: {}", said.err);
        assert!(said.err.contains("--config FILE"), "{text}: {}", said.err);
    }
    // `stat:` leaves the default, which is not there: nothing is made of a slip of the hand.
    desk.write("stepgate.yaml", &GOOD.replace("state: state", "stat: elsewhere"));
    std::fs::rename(desk.path("state"), desk.path("elsewhere")).unwrap();
    assert_eq!(desk.run("user list").code, 3);
    assert!(!desk.path("state").exists());
    desk.write("way-out.yaml", "state: elsewhere\n");
    assert!(desk.ok("user list --config way-out.yaml").contains("ann"));
}

#[test]
fn a_configuration_that_is_not_there_says_how_to_name_it() {
    let desk = Desk::with(GOOD);
    for line in
        ["user disable ann", "check", "doctor", "test", "serve", "explain GET /", "session list", "audit verify"]
    {
        let said = desk.run(&format!("{line} --config nowhere.yaml"));
        assert_eq!(said.code, 1, "{line}: as for every fault of the files");
        let text = said.out + &said.err;
        assert!(text.contains("nowhere.yaml: there is no such file in "), "{line}: {text}");
        assert!(text.contains("--config FILE, or STEPGATE_CONFIG"), "{line}: {text}");
    }
    // Where nobody named one, every place that was looked at is.
    if !Path::new("/etc/stepgate/stepgate.yaml").exists() {
        let out = desk.command("check").env_remove("STEPGATE_CONFIG").output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let here = desk.dir.path().canonicalize().unwrap();
        let tried = format!("there is no such file in {}, and no /etc/stepgate/stepgate.yaml either", here.display());
        assert!(text.starts_with(&format!("config/stepgate.yaml: {tried}")), "{text}");
    }
}

/// A session that was idle for too long while nobody looked has no end written down: it is not listed, and
/// ending it is no news.
#[test]
fn as_many_sessions_are_said_to_end_as_were_listed() {
    use std::time::Duration;
    use stepgate::base::clock::{Clock, SystemClock};
    use stepgate::base::ids::SessionId;
    use stepgate::base::rng::SystemRng;
    use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome};
    let desk = Desk::with(GOOD);
    desk.add("ann");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sign_in = |unseen_for: u64| {
        runtime.block_on(async {
            let (snapshot, _) = stepgate::config::load(&desk.path("stepgate.yaml")).unwrap();
            let now = SystemClock.now();
            let opened = stepgate::app::open_state(&snapshot, stepgate::app::IfAbsent::Refuse, now, &SystemRng).await;
            let store = opened.unwrap().store;
            let user = store.users().await.unwrap().remove(0);
            let mut tx = store.begin().await.unwrap();
            let held = tx.hold(user.id, user.epoch).await.unwrap();
            let session = stepgate::store::SessionRow {
                id: SessionId::new(now, &SystemRng),
                user: user.id,
                created_at: now.minus(Duration::from_secs(unseen_for)),
                last_seen_at: now.minus(Duration::from_secs(unseen_for)),
                expires_at: now.plus(Duration::from_secs(3600)),
                address: "192.0.2.7".to_owned(),
                user_agent: "Test/1".to_owned(),
                ended_at: None,
                end_reason: None,
            };
            tx.insert_session(held, &session).await.unwrap();
            tx.commit(&[AuditEvent::new(now, Actor::System, Action::Start, Outcome::Success, "A test.")])
                .await
                .unwrap();
            store.close().await;
        });
    };
    for command in ["session end --user ann", "session end --all"] {
        sign_in(0);
        sign_in(3600);
        let listed: serde_json::Value = serde_json::from_str(&desk.ok("session list --json")).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 1);
        let shown: serde_json::Value = serde_json::from_str(&desk.ok("user show ann --json")).unwrap();
        assert_eq!(shown["sessions"], 1);
        assert_eq!(desk.ok(command), "1 session ended.\n");
        assert_eq!(desk.ok(command), "0 sessions ended.\n");
    }
}

/// Only root can give files away, and only then can it go wrong.
#[test]
fn what_root_makes_in_the_gates_directory_is_the_gates() {
    use std::os::unix::fs::{MetadataExt, chown};
    const SOMEBODY: u32 = 65_534;
    let desk = Desk::with(GOOD);
    std::fs::create_dir(desk.path("state")).unwrap();
    if chown(desk.path("state"), Some(SOMEBODY), Some(SOMEBODY)).is_err() {
        return;
    }
    desk.add("ann");
    for entry in std::fs::read_dir(desk.path("state")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().uid(), SOMEBODY, "{}", path.display());
    }
    assert!(owned(&desk.path("state/keyring.json")) && owned(&desk.path("state/stepgate.db")));

    fn owned(path: &Path) -> bool {
        path.metadata().unwrap().uid() == SOMEBODY
    }
}

#[test]
fn a_state_of_another_account_is_refused_with_both_names_and_the_way() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let desk = Desk::with(GOOD);
    desk.add("ann");
    let open = |mode| std::fs::set_permissions(desk.dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    open(0o755);
    let mut asks = desk.command("user list");
    // Without root nobody else can be played, and the program may lie where others cannot go.
    let Ok(out) = asks.uid(65_534).gid(65_534).output() else { return };
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(3), "{err}");
    assert!(err.contains("belongs to the account root") && err.contains("sudo -u root"), "{err}");
}

#[test]
fn explain_tells_what_an_account_could_not_have_shown() {
    let open = "\x20 rules: [{ name: open, match: { path: /o }, allow: [anyone], require: none }]\n";
    let desk = Desk::with(&format!("{GOOD}{open}"));
    desk.add("ann");
    let nothing = "note: ann has enrolled nothing with which `mfa` could be shown\n";
    let said = desk.ok("explain GET / --as ann --at mfa");
    assert!(said.contains("ALLOW") && said.contains(nothing), "{said}");
    let asked = desk.run("explain GET / --as ann");
    assert!(asked.code == 1 && asked.out.contains("CHALLENGE") && asked.out.contains(nothing), "{}", asked.out);
    desk.ok("factor add ann totp");
    assert!(!desk.ok("explain GET / --as ann --at mfa").contains("note:"));
    let strong = desk.ok("explain GET / --as ann --at strong");
    assert!(strong.contains("ann has enrolled nothing with which `strong` could be shown"), "{strong}");
    desk.ok("user disable ann");
    let disabled = "the account of ann is disabled: nobody can sign in with it";
    let said: serde_json::Value = serde_json::from_str(&desk.ok("explain GET / --as ann --at mfa --json")).unwrap();
    assert_eq!(said["notes"], serde_json::json!([disabled]));
    assert!(!desk.ok("explain GET /o --as ann").contains("note:"), "a page that asks nobody who they are");
    assert!(!desk.ok("explain GET / --as ann --groups staff --at mfa").contains("note:"), "no account was asked about");
    desk.ok("user add bea --link");
    assert!(desk.ok("explain GET / --as bea --at mfa").contains("bea has no password yet"));
}

#[test]
fn explain_does_not_judge_a_name_that_nobody_has() {
    let desk = Desk::with(GOOD);
    desk.add("nadia");
    let said = desk.run("explain GET / --as nadja");
    assert_eq!(said.code, 1);
    assert!(said.out.is_empty(), "no verdict: {}", said.out);
    assert!(said.err.contains("no account has the name \"nadja\" - did you mean \"nadia\"?"), "{}", said.err);
    desk.ok("explain GET / --as nadja --groups staff --at mfa");
    desk.ok("explain GET / --as nadia --at mfa");
    // One wording wherever a name is given.
    for line in ["user show nadja", "session list nadja", "session end --user nadja", "factor list nadja"] {
        let said = desk.run(line);
        assert_eq!(
            (said.code, said.err.contains("no account has the name \"nadja\"")),
            (1, true),
            "{line}: {}",
            said.err
        );
    }
}

#[test]
fn a_name_that_apps_would_take_for_another_persons_is_refused() {
    let desk = Desk::with(GOOD);
    desk.add("bob");
    for name in ["BOB", "Bob"] {
        let said = desk.run(&format!("user add {name} --link"));
        assert_eq!(said.code, 1, "{}", said.out);
        assert!(said.err.contains("the account bob differs from this name only in letter case"), "{}", said.err);
    }
    let again = desk.run("user add bob --link");
    assert!(again.err.contains("an account of this name already"), "{}", again.err);
    desk.add("bobby");
}

#[test]
fn user_list_shows_the_factors_that_are_there_now() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    assert!(desk.ok("user list").contains("none, may enroll until"));
    desk.ok("factor add ann totp");
    desk.ok("factor codes ann");
    assert!(desk.ok("user list").contains("totp, backup_codes"));
    let listed: serde_json::Value = serde_json::from_str(&desk.ok("user list --json")).unwrap();
    assert_eq!(listed[0]["factor_kinds"], serde_json::json!(["totp", "backup_codes"]));
    desk.ok("factor reset ann");
    let listed = desk.ok("user list");
    assert!(listed.trim_end().ends_with("none"), "{listed}");
    assert_eq!(desk.ok("factor list ann"), "ann has no second factor.\n");
}

#[test]
fn a_code_generator_is_taken_over_with_its_secret_and_shown_no_more() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    let made: serde_json::Value = serde_json::from_str(&desk.ok("factor add ann hotp --json")).unwrap();
    let uri = made["uri"].as_str().unwrap().to_owned();
    assert!(uri.starts_with("otpauth://hotp/") && uri.contains("&counter=0"), "{uri}");
    assert_eq!(made["kind"], "hotp");
    let address = "otpauth://hotp/Vendor:4711?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=12&digits=8\n";
    let said = desk.type_in("factor add ann hotp --secret-stdin --label Fob", address);
    assert_eq!((said.code, said.out.as_str()), (0, "Added for ann.\n"), "{}", said.err);
    let hex = "3132333435363738393031323334353637383930";
    let said = desk.type_in("factor add ann hotp --secret-stdin --counter 3 --json", hex);
    assert!(said.code == 0 && said.out.contains("\"uri\": null") && !said.out.contains(hex), "{}", said.out);
    for (secret, why) in [
        ("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "no otpauth://hotp/"),
        ("MZXW6YTB", "under 128 bits"),
    ] {
        let said = desk.type_in("factor add ann hotp --secret-stdin", secret);
        assert!(said.code == 1 && said.err.contains(why) && !said.err.contains(secret), "{}", said.err);
    }
    assert_eq!(desk.run("factor add ann totp --counter 3").code, 2);
    let listed = desk.ok("factor list ann");
    assert!(listed.contains("hotp") && listed.contains("Fob") && listed.contains("Code generator"), "{listed}");
    let trail = desk.ok("audit tail --action factor_enroll");
    assert!(trail.contains("A code generator was enrolled by an operator.") && !trail.contains("GEZDGNBV"), "{trail}");
}

#[test]
fn an_account_is_changed_and_the_trail_says_what() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    assert_eq!(desk.run("user change ann").code, 2, "nothing to change is a slip");
    desk.ok("user change ann --display Ann --email ann@corp.example");
    let shown = desk.ok("user show ann");
    assert!(shown.contains("display     Ann") && shown.contains("ann@corp.example"), "{shown}");
    desk.ok("user change ann --no-email");
    assert!(desk.ok("user show ann").contains("email       -"));
    assert_eq!(desk.run("user change ann --email nonsense").code, 1);
    let trail = desk.ok("audit tail --action user_change");
    assert!(trail.contains("The display name and the e-mail address were changed."), "{trail}");
    assert_eq!(trail.lines().count(), 2, "{trail}");
    desk.ok("factor add ann totp --label Phone");
    assert!(desk.ok("factor list ann").contains("Phone"));
}

#[test]
fn a_reference_leads_to_its_event_or_says_where_else_to_look() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    let nothing = desk.run("audit tail --request 019aa2f4-6b1c-7c3e-9d2a-5f0b8c7d6e5f");
    assert_eq!((nothing.code, nothing.out.as_str()), (0, ""));
    assert!(nothing.err.contains("access log"), "{}", nothing.err);
    let nothing = desk.run("audit tail --request 019AA2F46B");
    assert!(nothing.err.contains("no event has a reference that begins with 019aa2f4-6b."), "{}", nothing.err);
    assert_eq!(desk.run("audit tail --request 12").code, 2);
    let nobody = desk.run("audit tail --user amn");
    assert!(nobody.err.contains("no event names amn, and no account has this name"), "{}", nobody.err);
    let action = desk.run("audit tail --action signin");
    assert_eq!(action.code, 2);
    assert!(action.err.contains("did you mean \"sign_in\"?") && action.err.contains("user_change"), "{}", action.err);
}

/// A certificate for `host`, and its key.
fn certified(host: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn check_serve_finds_what_serve_would_stumble_over() {
    let text = GOOD.replace("role: proxy", "role: proxy, tls: { certificates: tls }");
    let desk = Desk::with(&text);
    let (wiki, wiki_key) = certified("*.localhost");
    let (other, other_key) = certified("other.test");
    let refused = |wanted: &str| {
        let said = desk.run("check --serve");
        assert_eq!(said.code, 1, "{wanted}: {}", said.out);
        assert!(said.out.contains(wanted), "{wanted}: {}", said.out);
        let json: serde_json::Value = serde_json::from_str(&desk.run("check --serve --json").out).unwrap();
        assert!(json["ok"] == false && json["faults"][0]["message"].as_str().unwrap().contains(wanted), "{json}");
        desk.ok("check");
        assert!(!desk.path("state").is_dir(), "nothing is made by looking");
    };
    let empty = |dir: &str| {
        let _ = std::fs::remove_dir_all(desk.path(dir));
        std::fs::create_dir(desk.path(dir)).unwrap();
    };

    assert!(desk.run("check --serve").out.contains("tls are not there"));
    empty("tls");
    refused("has no certificate");
    desk.write("tls/gate.crt", &wiki);
    refused("its private key is not there: it belongs into tls/gate.key");
    desk.write("tls/gate.key", &other_key);
    refused("is not the private key of");
    desk.write("tls/gate.key", "nonsense");
    refused("gate.key: holds no");
    desk.write("tls/gate.key", &wiki_key);
    assert!(desk.ok("check --serve").contains(": good"), "a wildcard is for both hosts");
    desk.write("state", "a file");
    refused("state directory state cannot be used");
    std::fs::remove_file(desk.path("state")).unwrap();

    desk.write("tls/gate.crt", &other);
    desk.write("tls/gate.key", &other_key);
    let warned = desk.ok("check --serve");
    assert!(warned.contains("no certificate is for wiki.localhost") && warned.contains("other.test"), "{warned}");
}

#[test]
fn slips_on_the_command_line_are_usage_errors_that_say_the_right_way() {
    let desk = Desk::with(GOOD);
    desk.add("bob");
    for (line, wanted) in [
        ("factor remove bob 123", "\"123\" is too short"),
        ("session end 123", "\"123\" is too short"),
        ("user add eve", "--password-stdin or --password-file, or let the person choose it: --link"),
        ("user set-password bob", "give the password by --password-stdin or --password-file"),
        ("user add eve --link --group a,b", "--group a --group b"),
        ("demo --listen 0.0.0.0:0", "loopback only"),
        ("explain GET / --as bob --at frsh", "there is no level \"frsh\" - did you mean \"fresh\"?"),
        ("explain GET / --as bob --at x", "levels: password, mfa"),
        ("explain GET wiki.localhost:8080/a", "http://wiki.localhost:8080/a"),
        ("explain GET / --time yesterday", "2026-11-24T14:30:00Z"),
    ] {
        let said = desk.run(line);
        assert_eq!(said.code, 2, "{line}: {}{}", said.out, said.err);
        assert!(said.err.contains(wanted), "{line}: {}", said.err);
    }
    assert!(!desk.run("user set-password bob").err.contains("--link"), "it has no such flag");
    let near = desk.run("explain GET http://wiki.localhost/");
    assert!(near.out.contains("421") && near.out.contains("did you mean \"wiki.localhost:8080\"?"), "{}", near.out);
    assert!(desk.ok("user groups bob --add staff --add staff").ends_with("staff\n"));
    let absent = desk.run("user groups bob --remove zz");
    assert_eq!((absent.code, absent.err.contains("bob was not in the group zz")), (0, true), "{}", absent.err);
    let shown = desk.ok("user add eve --link --group staff --group staff --json");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["groups"], serde_json::json!(["staff"]));
}

#[test]
fn a_trail_under_another_ring_is_said_once_and_not_row_by_row() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    desk.add("bob");
    let other = Desk::with(GOOD);
    other.add("eve");
    std::fs::copy(other.path("state/keyring.json"), desk.path("state/keyring.json")).unwrap();
    let said = desk.run("audit verify");
    assert_eq!(said.code, 1);
    assert!(said.out.contains("not the one that this trail was written with"), "{}", said.out);
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
}

#[test]
fn failed_tests_come_as_places_for_scripts_and_as_junit_on_standard_output() {
    let desk = Desk::with(&format!("{GOOD}  tests: [{{ get: /, expect: allow }}]\n"));
    let json: serde_json::Value = serde_json::from_str(&desk.run("check --json").out).unwrap();
    let failed = &json["failed_tests"][0];
    assert_eq!((&failed["file"], &failed["line"]), (&"stepgate.yaml".into(), &9.into()), "{json}");
    assert!(failed["message"].as_str().unwrap().starts_with("GET / by nobody: expected allow"), "{json}");
    let junit = desk.run("test --junit -");
    assert_eq!(junit.code, 1);
    assert!(junit.out.starts_with("<?xml") && junit.out.trim_end().ends_with("</testsuite>"), "{}", junit.out);
    assert!(!desk.path("-").exists());
}

#[test]
fn who_can_says_of_every_account_what_would_become_of_it() {
    let rules = "\x20 allow: [group:staff]\n\x20 rules: [{ name: open, match: { path: /open }, require: password }]\n";
    let desk = Desk::with(&format!("{GOOD}{rules}"));
    for name in ["ann", "bea", "cid", "dan"] {
        desk.add(name);
        if name != "cid" {
            desk.ok(&format!("user groups {name} --add staff"));
        }
    }
    desk.ok("factor add ann totp");
    desk.ok("user disable dan");
    desk.ok("user add eva --group staff --link");
    let said = desk.ok("who-can GET http://wiki.localhost:8080/page");
    assert_eq!(
        said,
        "ann  can after step-up     default  mfa: totp\n\
         bea  cannot: not enrolled  default  mfa needs one of totp, hotp, webauthn, backup_codes\n\
         cid  cannot: not allowed   default\n\
         dan  cannot: not allowed   default  the account is disabled\n\
         eva  cannot: not enrolled  default  mfa; has no password yet\n\
         5 accounts: 0 can, 1 can after step-up, 2 cannot: not enrolled, 2 cannot: not allowed\n"
    );
    let open: serde_json::Value = serde_json::from_str(&desk.ok("who-can GET /open --json")).unwrap();
    assert_eq!(open["counts"], serde_json::json!({ "can": 2, "step_up": 0, "not_enrolled": 1, "not_allowed": 2 }));
    assert_eq!(open["people"][0]["user"], "ann");
    let csv = desk.ok("who-can GET /page --csv");
    assert_eq!(csv.lines().next(), Some("user,verdict,rule,level,factors,note"));
    assert!(csv.contains("bea,not_enrolled,default,mfa,\"totp, hotp, webauthn, backup_codes\",\r\n"), "{csv}");
    let small = desk.run("who-can delete /page");
    assert_eq!(small.code, 1);
    assert!(
        small.out.contains("400: the method must be written in capitals; ask for DELETE"),
        "{}{}",
        small.out,
        small.err
    );
    let nobody = desk.run("who-can GET /a%2fb");
    assert_eq!((nobody.code, nobody.out.starts_with("nobody: 400: ")), (1, true), "{}", nobody.out);
}

#[test]
fn check_tells_code_hosts_what_it_found_in_their_own_form() {
    let tests = "\x20 tests: [{ get: \"/a%2fb\", expect: allow }]\n\x20 rules: [{ name: r, match: { path: /r } }]\n";
    let desk = Desk::with(&format!("{GOOD}{tests}"));
    let said = desk.run("check --sarif");
    assert_eq!(said.code, 1);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    let result = |at: usize| {
        let result = &run["results"][at];
        let place = &result["locations"][0]["physicalLocation"];
        let rule = &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        format!(
            "{} {} {}:{}: {}",
            result["level"].as_str().unwrap(),
            result["ruleId"].as_str().unwrap(),
            place["artifactLocation"]["uri"].as_str().unwrap(),
            place["region"]["startLine"],
            result["message"]["text"].as_str().unwrap()
        )
    };
    assert!(
        result(0).starts_with("error failed-test stepgate.yaml:9: GET /a%2fb by nobody: expected allow, got reject"),
        "{}",
        result(0)
    );
    let last = run["results"].as_array().unwrap().len() - 1;
    assert_eq!(result(last), "note untried-rule stepgate.yaml:10: rule \"r\" is not tried by any test");
    desk.write("stepgate.yaml", &GOOD.replace("hosts:", "hsots:"));
    let said = desk.run("check --sarif");
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let first = &document["runs"][0]["results"][0];
    assert_eq!((said.code, first["ruleId"].as_str()), (1, Some("fault")));
    assert!(first["message"]["text"].as_str().unwrap().contains("did you mean \"hosts\"?"), "{first}");
    assert_eq!(desk.run("check --sarif --json").code, 2);
}

#[test]
fn check_tells_a_pull_request_where_its_faults_are() {
    let tests = "\x20 tests: [{ get: \"/a%2fb\", expect: allow }]\n\x20 rules: [{ name: r, match: { path: /r } }]\n";
    let desk = Desk::with(&format!("{GOOD}{tests}"));
    let said = desk.run("check --github");
    assert_eq!(said.code, 1);
    assert!(
        said.out
            .contains("::error file=stepgate.yaml,line=9,col=11::GET /a%252fb by nobody: expected allow, got reject"),
        "{}",
        said.out
    );
    assert!(said.out.contains("::notice file=stepgate.yaml,line=10,col=11::rule \"r\" is not tried by any test"));
    desk.write("stepgate.yaml", &GOOD.replace("hosts:", "hsots:"));
    let said = desk.run("check --github");
    assert!(said.out.contains("::error file=stepgate.yaml,line=7,"), "{}", said.out);
    assert!(said.out.contains("did you mean \"hosts\"?"), "{}", said.out);
}

#[test]
fn a_link_that_was_not_used_yet_is_shown_with_its_end() {
    let desk = Desk::with(GOOD);
    desk.ok("user add ann --link");
    assert!(desk.ok("user list").contains("sign-up link until 20"), "{}", desk.ok("user list"));
    assert!(desk.ok("user show ann").contains("sign-up link, not used yet, until 20"));
    let shown: serde_json::Value = serde_json::from_str(&desk.ok("user show ann --json")).unwrap();
    assert_eq!(shown["link"]["kind"], "sign_up");
    desk.add("bob");
    let listed: serde_json::Value = serde_json::from_str(&desk.ok("user list --json")).unwrap();
    assert_eq!((&listed[0]["link"]["kind"], &listed[1]["link"]), (&"sign_up".into(), &serde_json::Value::Null));
}

#[test]
fn the_first_digits_of_an_id_are_enough_where_no_other_begins_so() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    for _ in 0..2 {
        desk.ok("factor add ann totp");
    }
    let listed: serde_json::Value = serde_json::from_str(&desk.ok("factor list ann --json")).unwrap();
    let [one, two] = [0, 1].map(|n| listed[n]["id"].as_str().unwrap().to_owned());
    // Ids begin with the time.
    let same = one.bytes().zip(two.bytes()).take_while(|(a, b)| a == b).count();
    let said = desk.run(&format!("factor remove ann {}", &one[..same.min(6)]));
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("2 ids begin with") && said.err.contains(&one) && said.err.contains(&two),
        "{}",
        said.err
    );
    for (given, code, why) in
        [("ffffffff", 1, "the id of no factor begins with"), ("01", 2, "too short"), ("phone", 2, "is no id")]
    {
        let said = desk.run(&format!("factor remove ann {given}"));
        assert!(said.code == code && said.err.contains(why), "{given}: {}", said.err);
        let said = desk.run(&format!("session end {given}"));
        assert!(said.code == code && said.err.contains(&why.replace("factor", "session")), "{given}: {}", said.err);
    }
    desk.ok(&format!("factor remove ann {}", one[..=same].to_uppercase()));
    assert!(!desk.ok("factor list ann").contains(&one));
    desk.ok(&format!("factor remove ann {two}"));
}

#[test]
fn a_group_that_no_rule_names_is_warned_of_and_taken() {
    let desk = Desk::with(&format!("{GOOD}  allow: [group:staff]\n"));
    desk.add("ann");
    let said = desk.run("user groups ann staf");
    assert_eq!((said.code, said.out.as_str()), (0, "staf\n"));
    let warned = "no rule names the group \"staf\" - did you mean \"staff\"?";
    assert!(said.err.contains(warned), "{}", said.err);
    assert!(desk.run("user add bob --link --group staf").err.contains(warned));
    for good in ["user groups ann staff", "user groups ann --add staff"] {
        assert_eq!(desk.run(good).err, "", "{good}");
    }
}

#[test]
fn a_damaged_database_is_told_with_what_to_do() {
    let desk = Desk::with(GOOD);
    desk.add("ann");
    for name in ["state/stepgate.db-wal", "state/stepgate.db-shm"] {
        let _ = std::fs::remove_file(desk.path(name));
    }
    desk.write("state/stepgate.db", &"no database at all. ".repeat(1000));
    for line in ["user list", "serve", "doctor"] {
        let said = desk.run(line);
        assert_ne!(said.code, 0, "{line}");
        let all = format!("{}{}", said.out, said.err);
        assert!(all.contains("damaged") && all.contains("put back a backup"), "{line}: {all}");
    }
}

#[test]
fn a_demo_whose_port_is_taken_says_which_to_give() {
    let desk = Desk::with(GOOD);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let said = desk.run(&format!("demo --listen {addr} --state d"));
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("is taken by another program") && said.err.contains("--listen 127.0.0.1:0"),
        "{}",
        said.err
    );
}
