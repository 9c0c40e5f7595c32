//! `stepgate demo`: the main job on one machine, with embedded SQLite and a legacy app behind.

mod files;
pub mod legacy_app;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use tokio_util::sync::CancellationToken;

use self::files::{Files, Person};
use crate::app::{self, Gate, Options};
use crate::auth::users::{Draft, FirstPassword, Operator};
use crate::base::rng::{self, SystemRng};
use crate::base::secret::Secret;
use crate::config::snapshot::StoreSettings;
use crate::domain::audit::Action;
use crate::domain::user::{GroupName, UserName};
use crate::pages::qr;
use crate::store::ServeLock;
use crate::telemetry::access_log::AccessLogTarget;
use crate::telemetry::log::{self, LogFormat};

/// Who lives in the demo: name, display name, groups, whether an authenticator is set up already.
const PEOPLE: [(&str, &str, &[&str], bool); 2] =
    [("ann", "Ann Archer", &["staff"], true), ("lee", "Lee Larsen", &["staff", "leads"], false)];

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Where to listen: a loopback address, for a demo is nobody else's business.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = loopback)]
    listen: SocketAddr,

    /// Where accounts, keys and the policy are kept between starts.
    #[arg(long, value_name = "DIR", default_value = "stepgate-demo")]
    state: PathBuf,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr = text.parse().map_err(|_| "an address looks like 127.0.0.1:8080".to_owned())?;
    match addr.ip().is_loopback() {
        true => Ok(addr),
        false => Err("a demo listens on loopback only (127.0.0.1 or [::1]); for anything else write a configuration \
                      and use `stepgate serve`"
            .to_owned()),
    }
}

pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    log::init(LogFormat::Auto);
    let lock = take_lock(&args.state)?;
    let listen = settle_port(args.listen)?;
    let (legacy, upstream) = legacy_app_socket(listen)?;
    let files = Files::prepare(&args.state, listen, upstream)?;
    files.point_at(listen, upstream)?;
    let options = Options {
        access_log: AccessLogTarget::File(args.state.join("access.log")),
        inherit_sockets: false,
        signals: true,
        lock: Some(lock),
        ..Options::default()
    };
    let gate = app::start(&files.main, options).context("the demo did not start")?;
    let stop = CancellationToken::new();
    let serving = stop.clone();
    gate.core().background.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(legacy)?;
        legacy_app::serve(listener, serving).await
    });
    let people = gate.block_on(settle_people(&gate, &files)).context("the background runtime is gone")??;
    print_welcome(listen, &args.state, &files.main, &people);
    gate.run_until_signal();
    stop.cancel();
    Ok(ExitCode::SUCCESS)
}

/// Before any file is touched: a demo that runs here reads them again when they change.
fn take_lock(state: &Path) -> anyhow::Result<ServeLock> {
    app::lock_state(&StoreSettings::Sqlite, state).with_context(|| {
        format!(
            "a demo cannot run in {}: where one runs already, stop it first or give this one a directory of its own \
             with --state",
            state.display()
        )
    })
}

/// Port 0 has to become a number before the configuration can name it, and any other has to be free.
fn settle_port(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    let probe = std::net::TcpListener::bind(listen).map_err(|error| match (error.kind(), listen.port()) {
        (_, 0) => anyhow::Error::from(error).context("no free port"),
        // Asked here and plainly: the gate's own sockets share an address with other gates of this account.
        (std::io::ErrorKind::AddrInUse, port) => anyhow!(
            "{listen} is taken by another program, or another demo. Choose another port, such as --listen {}, or \
             --listen {} for any that is free",
            SocketAddr::new(listen.ip(), port.checked_add(10).unwrap_or(8090)),
            SocketAddr::new(listen.ip(), 0)
        ),
        _ => anyhow::Error::from(error).context(format!("cannot listen on {listen}")),
    })?;
    Ok(probe.local_addr()?)
}

/// The port behind the gate's, or any other free one.
fn legacy_app_socket(listen: SocketAddr) -> anyhow::Result<(std::net::TcpListener, SocketAddr)> {
    let next = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), listen.port().wrapping_add(1).max(1024));
    let socket = std::net::TcpListener::bind(next)
        .or_else(|_| std::net::TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)))
        .context("no free port for the legacy app")?;
    socket.set_nonblocking(true)?;
    let addr = socket.local_addr()?;
    Ok((socket, addr))
}

/// Adds the people at the first start; at later ones finds them again.
async fn settle_people(gate: &Gate, files: &Files) -> anyhow::Result<Vec<Person>> {
    let core = gate.core();
    let mut people = files.people()?;
    if people.is_empty() {
        let person = |(name, ..): &(&str, &str, &[&str], bool)| Person {
            name: (*name).to_owned(),
            password: readable_password(),
            otpauth: None,
        };
        people = PEOPLE.iter().map(person).collect();
        // Kept before they are used: a start that dies here is completed by the next.
        files.keep_people(&people)?;
    }
    for (name, display, groups, enrolled) in PEOPLE {
        let Some(person) = people.iter_mut().find(|p| p.name == name) else { continue };
        let operator = Operator { account: "demo".to_owned(), now: core.clock.now() };
        let snapshot = core.snapshot.load_full();
        let account = match core.store.user_by_name(&UserName::parse(name)?).await? {
            Some(account) => account,
            None => {
                let draft = Draft {
                    name: UserName::parse(name)?,
                    display: display.to_owned(),
                    email: Some(format!("{name}@corp.example")),
                    groups: groups.iter().map(|g| GroupName::parse(g)).collect::<Result<_, _>>()?,
                };
                let password = FirstPassword::Given(Secret::new(person.password.clone()));
                core.auth.add_user(&operator, &snapshot, draft, password).await?.0
            }
        };
        if enrolled && person.otpauth.is_none() {
            let (_, uri) = core.auth.operator_adds_totp(&operator, &snapshot, &account, None).await?;
            person.otpauth = Some(uri.expose().clone());
        }
        let closed = account.first_login_until.is_some_and(|until| until <= operator.now);
        if !enrolled && !account.ever_enrolled && closed {
            let mut tx = core.store.begin().await?;
            tx.set_first_login(account.id, Some(operator.now.plus(snapshot.factors.first_login))).await?;
            let reason = "The window for a first factor was opened again for the demo.";
            tx.commit(&[operator.event(&account, Action::UserChange, reason)]).await?;
        }
    }
    files.keep_people(&people)?;
    Ok(people)
}

/// Three groups of letters that can be read aloud: about 60 bits.
fn readable_password() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = rng::bytes::<12>(&SystemRng);
    let letters: Vec<char> = bytes.iter().map(|b| char::from(LETTERS[usize::from(b % 32)])).collect();
    letters.chunks(4).map(|c| c.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

#[expect(clippy::print_stdout, reason = "the welcome is what the command is for")]
fn print_welcome(listen: SocketAddr, state: &Path, config: &Path, people: &[Person]) {
    let port = listen.port();
    let app = format!("http://app.localhost:{port}");
    println!();
    println!("  Stepgate is ready. A legacy app stands behind it:");
    println!();
    println!("    the app       {app}/");
    println!("    the portal    http://login.localhost:{port}/");
    println!();
    for person in people {
        let what = match person.otpauth {
            Some(_) => "has an authenticator: scan the code below",
            None => "has none yet: you set one up at the first sign-in",
        };
        println!("    {:<6} password {}   ({what})", person.name, person.password);
    }
    for person in people {
        if let Some(otpauth) = &person.otpauth {
            println!();
            println!("  {}'s authenticator. Scan it with any app, or open the link on a phone:", person.name);
            println!();
            for line in qr::terminal(otpauth).lines() {
                println!("    {line}");
            }
            println!("    {otpauth}");
        }
    }
    let config = config.display();
    let stepgate = this_program();
    println!();
    println!("  Five things to try:");
    println!("    1. Open {app}/ and sign in as ann: the app greets you by name.");
    println!("    2. Open {app}/reports: after 2 minutes it wants a fresh code, and nothing else.");
    println!("    3. Open {app}/admin: it is refused, and the page says why.");
    println!("    4. Ask which rule it was:");
    println!("         {stepgate} --config {config} explain GET {app}/admin --as ann");
    println!("    5. Read what was written down:");
    println!("         {stepgate} --config {config} audit tail");
    println!();
    println!("  Is your browser on another machine? There: ssh -N -L {port}:127.0.0.1:{port} USER@THIS-MACHINE");
    println!("  and then the same addresses.");
    println!();
    println!("  State is kept in {}; Ctrl-C ends the demo.", state.display());
    println!();
}

/// How the visitor calls this program again: they may have come by `cargo run`.
fn this_program() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match std::env::current_exe() {
        Ok(path) => path.strip_prefix(&here).unwrap_or(&path).display().to_string(),
        Err(_) => "stepgate".to_owned(),
    }
}
