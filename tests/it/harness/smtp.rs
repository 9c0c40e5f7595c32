//! A mail relay over real sockets: it keeps what it took, and refuses what the story wants refused.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// One mail as the relay took it.
#[derive(Clone, Debug)]
pub struct Caught {
    pub to: String,
    /// Its headers and text, with the dots of the protocol taken off.
    pub raw: String,
    pub encrypted: bool,
}

impl Caught {
    /// A header, unfolded.
    pub fn header(&self, name: &str) -> String {
        let head = self.raw.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        let found = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        found.unwrap_or_else(|| panic!("no {name} in {head}"))
    }

    /// The text as its reader sees it.
    pub fn text(&self) -> String {
        let body = self.raw.split_once("\r\n\r\n").unwrap().1;
        match self.raw.contains("quoted-printable") {
            true => unquoted(body),
            false => body.replace("\r\n", "\n"),
        }
    }

    /// The first link in it.
    pub fn link(&self) -> String {
        let text = self.text();
        let link = text.split_whitespace().find(|word| word.starts_with("http"));
        link.unwrap_or_else(|| panic!("no link in {text}")).to_owned()
    }
}

fn unquoted(body: &str) -> String {
    let joined = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = joined.as_bytes();
    while let [first, more @ ..] = rest {
        match (first, more) {
            (b'=', [a, b, ..]) => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&[*a, *b]).unwrap(), 16).unwrap());
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

/// What the relay does; changed in the middle of a story.
#[derive(Clone, Default)]
pub struct Manners {
    /// Offers STARTTLS with this certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// Speaks TLS from the first byte.
    pub implicit: bool,
    /// Takes mail only after this login, `\0NAME\0PASSWORD` in base64.
    pub login: Option<String>,
    /// Answers this to a recipient that holds the first text.
    pub refuse: Option<(String, &'static str)>,
    /// Answers this to every mail, once its text is there.
    pub after_data: Option<&'static str>,
    /// Takes a mail, keeps it, and closes without a word: did it arrive?
    pub hang_up_after_data: bool,
}

pub struct SmtpCatcher {
    pub addr: SocketAddr,
    pub manners: Arc<Mutex<Manners>>,
    caught: Receiver<Caught>,
    _thread: JoinHandle<()>,
}

impl SmtpCatcher {
    pub fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let manners = Arc::new(Mutex::new(manners));
        let (say, caught) = channel();
        let shared = Arc::clone(&manners);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), shared, say) = (stream, Arc::clone(&shared), say.clone()) else { return };
                std::thread::spawn(move || {
                    let _ = serve(stream, &shared, &say);
                });
            }
        });
        Self { addr, manners, caught, _thread: thread }
    }

    pub fn plain() -> Self {
        Self::start(Manners::default())
    }

    /// The keys of `smtp:` for it.
    pub fn yaml(&self) -> String {
        format!(
            "smtp: {{ host: 127.0.0.1, port: {}, tls: none, from: \"Example Corp <gate@corp.example>\" }}",
            self.addr.port()
        )
    }

    /// The next mail, waited for.
    pub fn next(&self) -> Caught {
        self.caught.recv_timeout(std::time::Duration::from_secs(30)).unwrap_or_else(|_| panic!("no mail came"))
    }

    /// All that came until now.
    pub fn so_far(&self) -> Vec<Caught> {
        self.caught.try_iter().collect()
    }
}

/// The server's side of TLS with the pair that `tls::certificate` wrote.
pub fn server_tls(dir: &Path, file: &str) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(dir.join(format!("{file}.crt"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{file}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn serve(stream: TcpStream, manners: &Mutex<Manners>, say: &Sender<Caught>) -> std::io::Result<()> {
    let now = manners.lock().unwrap().clone();
    if now.implicit {
        let tls = ServerConnection::new(now.tls.clone().unwrap()).unwrap();
        converse(StreamOwned::new(tls, stream), true, true, manners, say)?;
        return Ok(());
    }
    let Some(stream) = converse(stream, false, true, manners, say)? else { return Ok(()) };
    let tls = ServerConnection::new(now.tls.unwrap()).unwrap();
    converse(StreamOwned::new(tls, stream), true, false, manners, say)?;
    Ok(())
}

/// Speaks until QUIT, or until STARTTLS, when the bare stream is given back.
fn converse<S: Read + Write>(
    stream: S,
    encrypted: bool,
    greet: bool,
    manners: &Mutex<Manners>,
    say: &Sender<Caught>,
) -> std::io::Result<Option<S>> {
    let mut on = BufReader::new(stream);
    let mut signed_in = false;
    let mut to = String::new();
    let answer = |on: &mut BufReader<S>, text: &str| {
        on.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
        on.get_mut().flush()
    };
    if greet {
        answer(&mut on, "220 relay.test ESMTP")?;
    }
    loop {
        let mut line = String::new();
        if on.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let now = manners.lock().unwrap().clone();
        let word = line.split([' ', '\r']).next().unwrap().to_ascii_uppercase();
        match word.as_str() {
            "EHLO" => {
                let mut offers = vec!["relay.test", "8BITMIME"];
                if now.tls.is_some() && !encrypted {
                    offers.push("STARTTLS");
                }
                if now.login.is_some() && encrypted {
                    offers.push("AUTH PLAIN");
                }
                let last = offers.len() - 1;
                for (i, offer) in offers.iter().enumerate() {
                    answer(&mut on, &format!("250{}{offer}", if i == last { ' ' } else { '-' }))?;
                }
            }
            "STARTTLS" => {
                answer(&mut on, "220 go ahead")?;
                return Ok(Some(on.into_inner()));
            }
            "AUTH" => {
                let shown = line.trim_end().rsplit(' ').next().unwrap().to_owned();
                signed_in = now.login.as_deref() == Some(shown.as_str());
                let told = if signed_in { "235 2.7.0 welcome" } else { "535 5.7.8 bad username or password" };
                answer(&mut on, told)?;
            }
            "MAIL" if now.login.is_some() && !signed_in => answer(&mut on, "530 5.7.0 sign in first")?,
            "MAIL" => answer(&mut on, "250 2.1.0 ok")?,
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap().to_owned();
                match &now.refuse {
                    Some((who, how)) if to.contains(who) => answer(&mut on, how)?,
                    _ => answer(&mut on, "250 2.1.5 ok")?,
                }
            }
            "DATA" => {
                answer(&mut on, "354 go on")?;
                let mut raw = String::new();
                loop {
                    let mut line = String::new();
                    on.read_line(&mut line)?;
                    if line == ".\r\n" {
                        break;
                    }
                    raw.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                if now.after_data.is_none() {
                    let _ = say.send(Caught { to: to.clone(), raw, encrypted });
                }
                if now.hang_up_after_data {
                    return Ok(None);
                }
                answer(&mut on, now.after_data.unwrap_or("250 2.0.0 queued as 4711"))?;
            }
            "QUIT" => {
                answer(&mut on, "221 bye")?;
                return Ok(None);
            }
            _ => answer(&mut on, "250 ok")?,
        }
    }
}
