//! Every key of the two kinds of file, with its reference text.

use super::build::{PROFILES, media_type, redirect_target};
use super::fault::did_you_mean;
use super::shape::{Key, Leaf, MapShape, Shape, Takes, key, later, required};
use super::values;
use crate::domain::host::{HostName, Scheme};
use crate::domain::policy::hours::Hours;
use crate::domain::route::AppName;
use crate::domain::user::{GroupName, UserName};

const fn text(what: &'static str, check: fn(&str) -> Result<(), String>) -> Leaf {
    Leaf { what, takes: Takes::Text(check) }
}

static WORDS: Leaf = text("a text", not_blank);
static BOOL: Leaf = Leaf { what: "true or false", takes: Takes::Bool };
static DURATION: Leaf = text("a duration such as 15m", |t| values::duration(t).map(drop));
static KEEP_BODY: Leaf = text("a size up to 16MiB such as 1MiB", |t| values::kept_size(t).map(drop));
static JUDGE_BODY: Leaf = text("a size from 1KiB to 1MiB", |t| values::judged_size(t).map(drop));
static SIZE: Leaf = text("a size such as 256KiB", |t| values::size(t).map(drop));
static ADDR: Leaf = text("an address such as \"[::]:443\"", |t| values::socket(t).map(drop));
static HOST: Leaf = text("a host such as app.corp.example", |t| {
    if let Some((_, host)) = t.split_once("://") {
        let host = host.split('/').next().unwrap_or(host);
        return Err(format!("{t:?} is a URL: leave out what stands around the host, {host:?}"));
    }
    if t.contains('*') {
        return Err(format!("{t:?}: a host is one whole name, wildcards are not supported; list each"));
    }
    HostName::parse(t.as_bytes(), Scheme::Https).map(drop).map_err(|e| format!("{t:?} is no host: {e}"))
});
static PATH: Leaf = text("a path of a file or directory", not_blank);
static URL: Leaf = text("an upstream such as https://10.0.4.11:8443", |t| values::upstream_url(t).map(drop));
static SERVER_NAME: Leaf = text("a name such as payroll.internal", |t| {
    let named = rustls_pki_types::ServerName::try_from(t);
    named.map(drop).map_err(|_| format!("{t:?} is no name that a certificate can carry"))
});
static REDIRECT_TARGET: Leaf = text("a path such as /app/ or an address", redirect_target);
static REDIRECT_STATUS: Leaf = Leaf { what: "a status from 301 to 308", takes: Takes::Int { least: 301, most: 308 } };
static RESPOND_STATUS: Leaf = Leaf { what: "a status from 200 to 599", takes: Takes::Int { least: 200, most: 599 } };
static MEDIA_TYPE: Leaf = text("a media type such as text/html", media_type);
static MEMBER: Leaf = text("a member such as action or user.role", |t| {
    let fine = !t.is_empty() && t.split('.').all(|step| !step.trim().is_empty());
    if fine { Ok(()) } else { Err(format!("{t:?} names no member of a document: write action or user.role")) }
});
static ANY_TEXT: Leaf = text("a text", |_| Ok(()));
static JSON_TEXT: Leaf = text("a JSON document as a text", not_blank);
static BODY: Leaf = text("a text", |_| Ok(()));
static PATH_PREFIX: Leaf = text("a path such as /legacy", values::path_prefix);
static HEALTH_PATH: Leaf = text("a path such as /ping", values::origin_form);
static RELAY: Leaf = text("a host such as smtp.corp.example", |t| {
    let named = rustls_pki_types::ServerName::try_from(t);
    named.map(drop).map_err(|_| format!("{t:?} is no host: a name or an address alone; the port has a key of its own"))
});
static GATEWAY_URL: Leaf =
    text("an address such as https://sms.corp.example/send", |t| values::gateway_url(t).map(drop));
static SMS_JSON: Leaf =
    text("a JSON document such as '{ \"to\": \"{to}\", \"text\": \"{text}\" }'", |t| values::sms_document(t).map(drop));
static PHONE_PREFIX: Leaf = text("the beginning of numbers such as \"+49\"", |t| {
    let digits = t.strip_prefix('+').unwrap_or_default();
    let fine =
        (1..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    fine.then_some(()).ok_or_else(|| format!("{t:?} is no beginning of a number: + and digits, the country code first"))
});
static SMS_PER_HOUR: Leaf = int(1, 1_000_000, "a number from 1 to 1000000");
static MAILBOX: Leaf = text("an e-mail address such as no-reply@corp.example", |t| {
    t.parse::<lettre::message::Mailbox>().map(drop).map_err(|e| format!("{t:?} is no e-mail address: {e}"))
});
static CIDR: Leaf = text("a network such as 198.51.100.0/24", |t| values::network(t).map(drop));
/// A name of `networks` or a network: which is right shows when the names are known.
static NETWORK: Leaf = text("a network or a name of `networks`", not_blank);
static NETWORK_NAME: Leaf = text("a name", |t| word(t, "network"));
static LEVEL_NAME: Leaf = text("a level", |t| word(t, "level"));
static LEVEL_REF: Leaf = text("the name of a level", not_blank);
static APP_NAME: Leaf = text("a name such as payroll", |t| {
    AppName::parse(t).map(drop).ok_or_else(|| format!("{t:?} is no app name: a-z, 0-9 and -, at most 63 characters"))
});
static RULE_NAME: Leaf = text("a name such as approve-run", |t| word(t, "rule"));
static WHO: Leaf = text("anyone, user:NAME or group:NAME", |t| match t.split_once(':') {
    None if t == "anyone" => Ok(()),
    Some(("user", name)) => UserName::parse(name).map(drop).map_err(|e| format!("{t:?}: {e}")),
    Some(("group", name)) => GroupName::parse(name).map(drop).map_err(|e| format!("{t:?}: {e}")),
    _ => Err(format!("{t:?} is nobody: write anyone, user:NAME or group:NAME{}", near_who(t))),
});

fn near_who(text: &str) -> String {
    let (kind, name) = match text.split_once(':') {
        Some((kind, name)) => (kind, format!(":{name}")),
        None => (text, String::new()),
    };
    let known: &[&str] = if name.is_empty() { &["anyone"] } else { &["user", "group"] };
    let near = known.iter().find(|k| did_you_mean(kind, [**k]).is_some());
    let meant = match near {
        Some(near) => format!("{near}{name}"),
        None if matches!(text, "everyone" | "everybody" | "all" | "public" | "*") => "anyone".to_owned(),
        // A bare word is mostly the name of a group, and else that of a person.
        None if name.is_empty() && GroupName::parse(kind).is_ok() => {
            return format!(" - did you mean \"group:{kind}\", or \"user:{kind}\" for one person?");
        }
        None => return String::new(),
    };
    format!(" - did you mean \"{meant}\"?")
}

static USER: Leaf = text("a user name", |t| UserName::parse(t).map(drop).map_err(|e| format!("{t:?}: {e}")));
static GROUP: Leaf = text("a group name", |t| GroupName::parse(t).map(drop).map_err(|e| format!("{t:?}: {e}")));
static METHOD: Leaf = text("a method such as POST", |t| {
    let fine = !t.is_empty() && t.len() <= 15 && t.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    if fine { Ok(()) } else { Err(format!("{t:?} is no method: write it in capitals, such as POST")) }
});
static HOURS: Leaf = text("hours such as \"Mon-Fri 07:00-19:00 Europe/Paris\"", |t| {
    Hours::parse(t).map(drop).map_err(|e| e.to_string())
});
static TIME: Leaf = text("a time such as 2026-11-24T14:30:00Z", |t| {
    let parsed = crate::base::clock::Timestamp::parse_rfc3339(t);
    parsed.map(drop).map_err(|_| format!("{t:?} is no time: write it like 2026-11-24T14:30:00Z"))
});
static UNTIL: Leaf = text("a date such as 2026-12-31 or a time", |t| values::until(t).map(drop));
static IP: Leaf = text("an address such as 198.51.100.7", |t| {
    t.parse::<std::net::IpAddr>().map(drop).map_err(|_| format!("{t:?} is no address"))
});
static HEADER_NAME: Leaf = text("a header name", |t| {
    http::HeaderName::from_bytes(t.as_bytes()).map(drop).map_err(|_| format!("{t:?} is no header name"))
});
/// Checked where the app's `paths` are known.
static PATTERN: Leaf = text("a path such as /admin/**", not_blank);
static EXPECT: Leaf =
    text("allow, challenge LEVEL, deny or reject", |t| match t.split_whitespace().collect::<Vec<_>>()[..] {
        ["allow" | "challenge" | "deny" | "reject"] | ["challenge", _] => Ok(()),
        _ => {
            let word = t.split_whitespace().next().unwrap_or_default();
            let near = did_you_mean(word, ["allow", "challenge", "deny", "reject"]);
            let near = near.map(|hint| format!(" - {hint}")).unwrap_or_default();
            Err(format!("{t:?} is no expectation: allow, challenge LEVEL, deny or reject{near}"))
        }
    });
/// A word that means "off" elsewhere would be shown to people as the reason, and deny everybody.
static SENTENCE: Leaf = text("the sentence that tells the person why (to let people pass, leave `deny` out)", |t| {
    match t.trim().to_ascii_lowercase().as_str() {
        "no" | "off" | "false" | "yes" | "on" | "true" | "none" => Err(format!(
            "`deny: {t}` is no switch: `deny` holds the sentence that tells the person why (to let people pass, leave it out)"
        )),
        "all" | "everyone" | "everybody" | "anyone" | "*" => Err(format!(
            "`deny: {t}`: a rule denies everybody whom it matches; `deny` holds the sentence that tells them why, such as \"Closed for the night.\""
        )),
        _ => not_blank(t),
    }
});
static TARGET: Leaf = text("a path, with a query where one is needed", |t| {
    if t.is_empty() || t.contains('#') { Err(format!("{t:?} is no path of a request")) } else { Ok(()) }
});
static VERSION: Leaf =
    Leaf { what: "version 1 of this language (this program reads no other)", takes: Takes::Int { least: 1, most: 1 } };

const fn int(least: i64, most: i64, what: &'static str) -> Leaf {
    Leaf { what, takes: Takes::Int { least, most } }
}
static TOTP_DIGITS: Leaf = int(6, 8, "6, 7 or 8");
static TOTP_DRIFT: Leaf = int(0, 2, "0, 1 or 2");
static HOTP_LOOK_AHEAD: Leaf = int(0, 5, "a number from 0 to 5");
static CODES: Leaf = int(5, 20, "a number from 5 to 20");
static FACTORS_COUNT: Leaf = int(1, 2, "1 or 2 (types of factor: knows, has)");
static STREAK: Leaf = int(1, 100, "a number from 1 to 100");
static STATUS: Leaf = int(200, 599, "a status from 200 to 599");
static PER_USER: Leaf = int(1, 1000, "a number from 1 to 1000");
static PASSWORD_MIN: Leaf = int(8, 64, "a number from 8 to 64");

static PORT: Leaf = int(1, 65535, "a port");
static RELAY_TLS: Leaf = Leaf { what: "a way to TLS", takes: Takes::OneOf(&["starttls", "implicit", "none"]) };
static ROLE: Leaf = Leaf { what: "a role", takes: Takes::OneOf(&["proxy", "redirect", "ops", "forward_auth"]) };
static POSTURE: Leaf = Leaf { what: "a posture", takes: Takes::OneOf(&["normal", "elevated", "lockdown"]) };
static LOCKDOWN: Leaf = Leaf { what: "open or closed", takes: Takes::OneOf(&["open", "closed"]) };
static KIND: Leaf = Leaf {
    what: "a kind of factor",
    takes: Takes::OneOf(&[
        "password",
        "totp",
        "hotp",
        "webauthn",
        "push",
        "email",
        "sms",
        "backup_codes",
        "client_certificate",
    ]),
};
static LIKE: Leaf = Leaf { what: "a way to read paths", takes: Takes::OneOf(&["unix", "iis", "tomcat", "php"]) };
static ADD_AFTER: Leaf = Leaf { what: "what to add a key after", takes: Takes::OneOf(&["key", "code"]) };
static FORM: Leaf = Leaf {
    what: "a form of paths",
    takes: Takes::OneOf(&["encoded_slash", "encoded_hash", "path_params", "double_slash"]),
};
static PROTOCOL: Leaf = Leaf { what: "a protocol", takes: Takes::OneOf(&["http1", "http2", "auto"]) };
static ENCODING: Leaf = Leaf { what: "an encoding", takes: Takes::OneOf(&["utf8", "rfc8187", "percent"]) };
static HARDEN: Leaf = Leaf { what: "how to harden", takes: Takes::OneOf(&["off", "report_only", "enforce"]) };
static APP_COOKIES: Leaf = Leaf { what: "a way to treat the app's cookies", takes: Takes::OneOf(&["seal", "none"]) };
static COOKIE_NAME: Leaf = text("a cookie's name, or NAME* for all that begin so", |t| {
    let name = t.strip_suffix('*').unwrap_or(t);
    let fine = |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}*".contains(&b);
    if !name.is_empty() && name.bytes().all(fine) { Ok(()) } else { Err(format!("{t:?} is no name of a cookie")) }
});
static ON_END: Leaf = Leaf { what: "what happens at the end", takes: Takes::OneOf(&["close_live_connections"]) };
pub(super) static DIALECTS: [&str; 7] =
    ["remote-user", "oauth2-proxy", "x-auth-request", "authentik", "pomerium", "cloudflare", "caddy-security"];
static DIALECT: Leaf = Leaf { what: "a dialect of identity headers", takes: Takes::OneOf(&DIALECTS) };
static SOURCE: Leaf =
    Leaf { what: "what a header can carry", takes: Takes::OneOf(&["user", "groups", "name", "email", "subject"]) };

static SECRET: MapShape = MapShape {
    what: "a reference to a secret",
    keys: &[
        key("file", Shape::Leaf(&PATH), "A file that holds the secret and nothing else; a newline at its end is cut."),
        key("env", Shape::Leaf(&WORDS), "An environment variable that holds the secret."),
    ],
};
static TLS: MapShape = MapShape {
    what: "`tls`",
    keys: &[required(
        "certificates",
        Shape::Leaf(&PATH),
        "A directory of NAME.crt and NAME.key pairs (or NAME.pem with both), or one .pem file.",
    )],
};
static LISTEN: MapShape = MapShape {
    what: "a listener",
    keys: &[
        required("addr", Shape::Leaf(&ADDR), "Address and port, quoted: \"[::]:443\". Port 0 lets the system choose."),
        required(
            "role",
            Shape::Leaf(&ROLE),
            "proxy: apps and sign-in. redirect: sends browsers to https. ops: /livez, /readyz, /metrics.",
        ),
        key(
            "tls",
            Shape::Map(&TLS),
            "Certificates. Without it the listener speaks clear text, which only loopback and trusted_proxies allow.",
        ),
        key(
            "from",
            Shape::OneOrMany(&Shape::Leaf(&NETWORK)),
            "Networks that may connect. Compulsory for an ops listener off loopback.",
        ),
        key(
            "proxy_protocol",
            Shape::Leaf(&BOOL),
            "true: each connection begins with a PROXY header (version 1 or 2), and only trusted_proxies may connect.",
        ),
    ],
};
static PORTAL: MapShape = MapShape {
    what: "`portal`",
    keys: &[
        key(
            "host",
            Shape::Leaf(&HOST),
            "The host where people sign in, once for all apps. Without it each app's host serves the sign-in.",
        ),
        key("title", Shape::Leaf(&WORDS), "The name above the sign-in page. Default: Stepgate."),
        key("help", Shape::Leaf(&WORDS), "Whom people may ask, shown on every page."),
    ],
};
static ADMIN: MapShape = MapShape {
    what: "`admin`",
    keys: &[required(
        "allow",
        Shape::List(&Shape::Leaf(&WHO)),
        "Who may use the admin console, always at the level strong.",
    )],
};
static STORE: MapShape = MapShape {
    what: "`store`",
    keys: &[
        required("url", Shape::Secret(&SECRET), "The PostgreSQL URL, by reference: it holds a password."),
        key(
            "keys",
            Shape::Secret(&SECRET),
            "The key ring that all replicas share: { file: ... }. Default: in `state`.",
        ),
    ],
};
static SESSIONS: MapShape = MapShape {
    what: "`sessions`",
    keys: &[
        key("idle", Shape::Leaf(&DURATION), "A session ends after this long without a request. Default 15m."),
        key("max", Shape::Leaf(&DURATION), "A session ends after this long in any case. Default 10h."),
        key("per_user", Shape::Leaf(&PER_USER), "Sessions that one person may have; the oldest ends. Default 10."),
        key("on_end", Shape::Leaf(&ON_END), "What the end of a session does to its live connections: it closes them."),
    ],
};
static TOTP: MapShape = MapShape {
    what: "`totp`",
    keys: &[
        key("digits", Shape::Leaf(&TOTP_DIGITS), "Digits of a code. Default 6, which every authenticator app can."),
        key("period", Shape::Leaf(&DURATION), "How long one code is shown, 15s to 120s. Default 30s."),
        key(
            "drift",
            Shape::Leaf(&TOTP_DRIFT),
            "Steps before and after the current one that are taken too. Default 1; 0 for ASVS 6.5.5.",
        ),
    ],
};
static HOTP: MapShape = MapShape {
    what: "`hotp`",
    keys: &[
        key(
            "look_ahead",
            Shape::Leaf(&HOTP_LOOK_AHEAD),
            "Presses of the token that nobody typed, and that are passed over. Default 5, which is the most; beyond them two \
             codes in a row bring it back into step.",
        ),
        key(
            "enroll",
            Shape::Leaf(&BOOL),
            "true: people may set one up in an app on their account page. Default false: operators enroll them (`factor add \
             NAME hotp`).",
        ),
    ],
};
static WEBAUTHN: MapShape = MapShape {
    what: "`webauthn`",
    keys: &[
        key(
            "passkeys",
            Shape::Leaf(&BOOL),
            "Whether a passkey that checks its user (PIN, finger, face) signs in without name and password. Default true.",
        ),
        key(
            "add_after",
            Shape::Leaf(&ADD_AFTER),
            "What a signed-in person must have shown to add a key: `key` (default: one that they have; the first comes at \
             the sign-up, in `first_login` or by a link of `user link`) or `code` (a code of theirs is enough; whoever \
             phishes password and code can then add a key of their own).",
        ),
    ],
};
static CODES_MAP: MapShape =
    MapShape { what: "`backup_codes`", keys: &[key("count", Shape::Leaf(&CODES), "Codes in one set. Default 10.")] };
static PASSWORD: MapShape = MapShape {
    what: "`password`",
    keys: &[key(
        "min",
        Shape::Leaf(&PASSWORD_MIN),
        "Characters of a new password at least. Default 8 (use 15 where a rule asks for the password alone).",
    )],
};
static EMAIL: MapShape = MapShape {
    what: "`email`",
    keys: &[key(
        "codes",
        Shape::Leaf(&BOOL),
        "true: people may confirm by a code sent to the address of their account, where a level names email in its \
         `kinds`. Whoever reads the mailbox has the code. Needs `smtp`. Default false.",
    )],
};
static SMS_CODES: MapShape = MapShape {
    what: "`factors.sms`",
    keys: &[
        key(
            "codes",
            Shape::Leaf(&BOOL),
            "true: people may confirm by a code in a text message. Whoever takes the number over has the code. Needs `sms`. \
             Default false.",
        ),
        key(
            "enroll",
            Shape::Leaf(&BOOL),
            "Whether people may say on their account page to which number, which a first code proves. Default true; false: \
             operators alone (`factor add NAME sms`).",
        ),
    ],
};
static SMS_BASIC: MapShape = MapShape {
    what: "`basic`",
    keys: &[
        required("username", Shape::Leaf(&WORDS), "The login at the gateway; at Twilio the account's SID."),
        required("password", Shape::Secret(&SECRET), "Its password or token, by reference."),
    ],
};
static SMS: MapShape = MapShape {
    what: "`sms`",
    keys: &[
        required(
            "url",
            Shape::Leaf(&GATEWAY_URL),
            "Where one POST sends one message: https, or http to this machine. No redirect is followed.",
        ),
        key("ca", Shape::Leaf(&PATH), "A PEM file of further roots, for a gateway with a private CA."),
        key(
            "private",
            Shape::Leaf(&BOOL),
            "true: the gateway's name may lead to an address of a private network, of this machine or of the link. Default \
             false: such an address is refused after the name was looked up.",
        ),
        key(
            "dangerously_in_clear",
            Shape::Leaf(&BOOL),
            "true: http to a gateway elsewhere. Whoever is on the way reads the codes.",
        ),
        key("basic", Shape::Map(&SMS_BASIC), "The login by name and password (RFC 7617)."),
        key("bearer", Shape::Secret(&SECRET), "The login by a key (RFC 6750), by reference."),
        key(
            "sign",
            Shape::Secret(&SECRET),
            "A secret that signs each request, by reference: `Stepgate-Timestamp` has the Unix time, `Stepgate-Signature` \
             `v1=` and the HMAC-SHA256 in hexadecimal over that time, a dot and the body.",
        ),
        key(
            "form",
            Shape::Names(&WORDS, &Shape::Leaf(&ANY_TEXT)),
            "The fields of the body, as a form. `{to}` is the number (E.164), `{text}` the message, `{id}` its own id, the \
             same when it is sent again.",
        ),
        key(
            "json",
            Shape::Leaf(&SMS_JSON),
            "The body as a JSON document, written as a text; the same places, within its strings.",
        ),
        key(
            "success",
            Shape::OneOrMany(&Shape::Leaf(&STATUS)),
            "Statuses by which the gateway takes a message. Default: all from 200 to 299.",
        ),
        required(
            "allow_prefixes",
            Shape::OneOrMany(&Shape::Leaf(&PHONE_PREFIX)),
            "How the numbers begin that messages may go to, such as \"+49\": the countries of your people, and no dearer ones.",
        ),
        key(
            "per_hour",
            Shape::Leaf(&SMS_PER_HOUR),
            "Messages in an hour at most, to everybody together: what a thief of passwords can cost. Default 300.",
        ),
    ],
};
static FACTORS: MapShape = MapShape {
    what: "`factors`",
    keys: &[
        key("password", Shape::Map(&PASSWORD), "New passwords."),
        key("totp", Shape::Map(&TOTP), "Codes of an authenticator app (RFC 6238)."),
        key("hotp", Shape::Map(&HOTP), "Codes of a token that counts its presses (RFC 4226)."),
        key("webauthn", Shape::Map(&WEBAUTHN), "Security keys and passkeys."),
        key("backup_codes", Shape::Map(&CODES_MAP), "One-time codes on paper."),
        key("email", Shape::Map(&EMAIL), "One-time codes by e-mail; restricted."),
        key("sms", Shape::Map(&SMS_CODES), "One-time codes by text message; restricted."),
        key(
            "first_login",
            Shape::Leaf(&DURATION),
            "How long a new account may enroll its first factor with the password alone. Default 24h; 0s: only by link.",
        ),
    ],
};
static SMTP: MapShape = MapShape {
    what: "`smtp`",
    keys: &[
        required("host", Shape::Leaf(&RELAY), "The relay that takes our mail: a name or an address, without a port."),
        key("port", Shape::Leaf(&PORT), "Default: 587 with starttls, 465 with implicit, 25 with none."),
        key(
            "tls",
            Shape::Leaf(&RELAY_TLS),
            "starttls (default): the relay must offer it, or no mail goes. implicit: TLS from the first byte. none: in clear, \
             which only a relay on this machine may.",
        ),
        key("ca", Shape::Leaf(&PATH), "A PEM file of further roots, for a relay with a private CA."),
        key(
            "dangerously_in_clear",
            Shape::Leaf(&BOOL),
            "true: `tls: none` to a relay elsewhere. Whoever is on the way reads one-time codes and the links of notices.",
        ),
        key("username", Shape::Leaf(&WORDS), "The login at the relay; such as apikey at SendGrid. Default: none."),
        key("password", Shape::Secret(&SECRET), "Its password or API key, by reference."),
        required(
            "from",
            Shape::Leaf(&MAILBOX),
            "The sender: no-reply@corp.example, or \"Example Corp <no-reply@corp.example>\".",
        ),
        key(
            "reply_to",
            Shape::Leaf(&MAILBOX),
            "Where answers go; those to a notice mean something. Default: to `from`.",
        ),
    ],
};
static LEVEL: MapShape = MapShape {
    what: "a level",
    keys: &[
        required("factors", Shape::Leaf(&FACTORS_COUNT), "How many types of factor (knows, has): 1 or 2."),
        key("max_age", Shape::Leaf(&DURATION), "How long ago the factor that counts may have been shown."),
        key(
            "phishing_resistant",
            Shape::Leaf(&BOOL),
            "The factor that counts must be a security key, a passkey or a client certificate.",
        ),
        key("user_verified", Shape::Leaf(&BOOL), "The authenticator must have checked its user (PIN or biometry)."),
        key("kinds", Shape::List(&Shape::Leaf(&KIND)), "Only these kinds count. Default: all but email."),
        key(
            "remember",
            Shape::Leaf(&DURATION),
            "People may have a browser remembered: for so long their password alone meets this level there. Off unless \
             given.",
        ),
        key("grace", Shape::Map(&GRACE), "Time to set up a second factor, for people who never had one."),
    ],
};
static GRACE: MapShape = MapShape {
    what: "`grace`",
    keys: &[
        required(
            "until",
            Shape::Leaf(&UNTIL),
            "When it ends: a time (RFC 3339), or a date, whose whole day in UTC still counts. From then on the level is \
             asked of everybody.",
        ),
        required(
            "require",
            Shape::Leaf(&LEVEL_REF),
            "The level, of one factor, that is enough meanwhile for people who never had a second factor.",
        ),
    ],
};
static PROFILE: Leaf = Leaf { what: "a profile", takes: Takes::OneOf(&PROFILES) };
static COMPLIANCE: MapShape = MapShape {
    what: "`compliance`",
    keys: &[required(
        "profile",
        Shape::OneOrMany(&Shape::Leaf(&PROFILE)),
        "`check` warns of what the files say otherwise than these standards, with the clause. A mapping of what a file \
         can show, no certificate.",
    )],
};
static ELEVATED: MapShape = MapShape {
    what: "`elevated`",
    keys: &[key(
        "levels",
        Shape::Names(&LEVEL_NAME, &Shape::Map(&LEVEL)),
        "What stands in the place of the levels of these names.",
    )],
};
static IN_LOCKDOWN: MapShape = MapShape {
    what: "`lockdown`",
    keys: &[
        key("allow", Shape::List(&Shape::Leaf(&WHO)), "For these people the rules hold as ever. Default: nobody."),
        key("say", Shape::Leaf(&WORDS), "The sentence that everybody else reads."),
        key(
            "levels",
            Shape::Names(&LEVEL_NAME, &Shape::Map(&LEVEL)),
            "What stands in the place of the levels of these names.",
        ),
    ],
};
static POSTURES: MapShape = MapShape {
    what: "`postures`",
    keys: &[
        key("elevated", Shape::Map(&ELEVATED), "Something is suspected: what then is asked for."),
        key("lockdown", Shape::Map(&IN_LOCKDOWN), "All is closed but what is marked `lockdown: open`: for whom not."),
    ],
};
static HEALTH: MapShape = MapShape {
    what: "`health`",
    keys: &[
        required("path", Shape::Leaf(&HEALTH_PATH), "Asked by GET, as nobody; the Host is the one of requests."),
        key("every", Shape::Leaf(&DURATION), "How often each address is asked, 100ms to 1h. Default 5s."),
        key("timeout", Shape::Leaf(&DURATION), "For connection and answer together. Default 2s."),
        key("healthy_after", Shape::Leaf(&STREAK), "Good answers in a row that bring an address back. Default 2."),
        key("unhealthy_after", Shape::Leaf(&STREAK), "Bad answers in a row that take an address out. Default 3."),
        key(
            "expect",
            Shape::OneOrMany(&Shape::Leaf(&STATUS)),
            "Statuses that are good answers. Default: all from 200 to 399.",
        ),
    ],
};
static CLIENT_CERTIFICATE: MapShape = MapShape {
    what: "`client_certificate`",
    keys: &[
        required("certificate", Shape::Leaf(&PATH), "A PEM file: the certificate, then what leads to its root."),
        required("key", Shape::Secret(&SECRET), "Its private key (PEM), by reference."),
    ],
};
static UPSTREAM: MapShape = MapShape {
    what: "`upstream`",
    keys: &[
        required(
            "urls",
            Shape::OneOrMany(&Shape::Leaf(&URL)),
            "Where the app lives. Of several, each request goes to the one with the fewest in hand; one that fails three \
             requests in a row is passed over for 10s and longer.",
        ),
        key("ca", Shape::Leaf(&PATH), "A PEM file of further roots, for https with a private CA."),
        key(
            "client_certificate",
            Shape::Map(&CLIENT_CERTIFICATE),
            "What the gate shows to an https app that asks who connects. Read again at every reload.",
        ),
        key(
            "server_name",
            Shape::Leaf(&SERVER_NAME),
            "The name in the app's certificate, where it is not the host of its URL; also asked for by SNI.",
        ),
        key(
            "health",
            Shape::Either(&[Shape::Leaf(&HEALTH_PATH), Shape::Map(&HEALTH)]),
            "Asks each address whether it is well: a path such as /ping, or a map with more. Default: no checks.",
        ),
        key(
            "slow_start",
            Shape::Leaf(&DURATION),
            "How long an address that came back takes to get its full share of requests. Default 10s; 0s: at once.",
        ),
        key(
            "dangerously_insecure",
            Shape::Leaf(&BOOL),
            "true takes any certificate from the app: anyone on the way can read along.",
        ),
        key(
            "preserve_host",
            Shape::Leaf(&BOOL),
            "The app sees the public Host (default), or with false the host of its URL.",
        ),
        key(
            "protocol",
            Shape::Leaf(&PROTOCOL),
            "http1 (default), http2 (over http:// without asking, as gRPC apps speak it), or auto: what an https app prefers.",
        ),
        key(
            "path_prefix",
            Shape::Leaf(&PATH_PREFIX),
            "Where the app lives on its server, such as /legacy: stands before every path sent to it, and is taken off \
             Location, Refresh and cookie paths. Rules see the path without it. Default: none.",
        ),
        key(
            "reads_bodies",
            Shape::Leaf(&BOOL),
            "true: the app's server reads every request body to its end or closes, as RFC 9112 section 9.3 demands, so \
             connections are used again after forms and uploads. Default false: such a request ends its connection to \
             the app, for a body that is left unread would be taken for the next request.",
        ),
        key("get_body", Shape::Leaf(&BOOL), "Pass GET and HEAD with a body, which are refused otherwise."),
        key("connect_timeout", Shape::Leaf(&DURATION), "Default 5s."),
        key("first_byte_timeout", Shape::Leaf(&DURATION), "Until the head of the answer. Default 60s."),
        key(
            "idle_timeout",
            Shape::Leaf(&DURATION),
            "Longest silence in the middle of an answer. Default: none, for event streams may be silent for long.",
        ),
    ],
};
static HEADER_SOURCE: MapShape = MapShape {
    what: "a header's value",
    keys: &[
        key("file", Shape::Leaf(&PATH), "A fixed secret from a file."),
        key("env", Shape::Leaf(&WORDS), "A fixed secret from an environment variable."),
        key("text", Shape::Leaf(&WORDS), "A fixed text that is no secret."),
        key("groups", Shape::Leaf(&WORDS), "The groups, joined by this one character."),
    ],
};
static IDENTITY: MapShape = MapShape {
    what: "`identity`",
    keys: &[
        key(
            "headers",
            Shape::OneOrMany(&Shape::Either(&[
                Shape::Leaf(&DIALECT),
                Shape::Names(&HEADER_NAME, &Shape::Either(&[Shape::Leaf(&SOURCE), Shape::Map(&HEADER_SOURCE)])),
            ])),
            "Dialects and headers of your own: { X-WEBAUTH-USER: user }, { X-Key: { file: /run/secrets/key } }.",
        ),
        key(
            "assertion",
            Shape::Leaf(&BOOL),
            "Send X-Stepgate-Assertion, a signed token that the app checks against /.stepgate/jwks.json.",
        ),
        key("encoding", Shape::Leaf(&ENCODING), "How letters outside ASCII are written into headers. Default utf8."),
        key(
            "pass_headers",
            Shape::List(&Shape::Leaf(&HEADER_NAME)),
            "Client headers with generic names (X-User, ...) or odd bytes that the app really uses.",
        ),
    ],
};
static PATHS: MapShape = MapShape {
    what: "`paths`",
    keys: &[
        key(
            "like",
            Shape::Leaf(&LIKE),
            "How the app reads paths. Without it, the readings of common apps are all judged.",
        ),
        key(
            "allow",
            Shape::OneOrMany(&Shape::Leaf(&FORM)),
            "Forms that are refused otherwise; every reading of them is judged.",
        ),
    ],
};
static REGEX: MapShape = MapShape {
    what: "a path",
    keys: &[required("regex", Shape::Leaf(&WORDS), "A regular expression over the whole decoded path; linear time.")],
};
static MATCH: MapShape = MapShape {
    what: "`match`",
    keys: &[
        key(
            "path",
            Shape::OneOrMany(&Shape::Either(&[Shape::Leaf(&PATTERN), Shape::Map(&REGEX)])),
            "Paths: `*` is one segment, `**` any depth; whole and anchored. Or { regex: ... }.",
        ),
        key("methods", Shape::OneOrMany(&Shape::Leaf(&METHOD)), "Methods; GET covers HEAD."),
        key(
            "query",
            Shape::Names(&WORDS, &Shape::OneOrMany(&Shape::Leaf(&WORDS))),
            "Query parameters and their values.",
        ),
        key("from", Shape::OneOrMany(&Shape::Leaf(&NETWORK)), "Networks of the client."),
        key("hours", Shape::Leaf(&HOURS), "Days, times and zone: \"Mon-Fri 07:00-19:00 Europe/Paris\"."),
        key("who", Shape::OneOrMany(&Shape::Leaf(&WHO)), "Signed-in people: user:NAME, group:NAME."),
        key(
            "form",
            Shape::Names(&WORDS, &Shape::OneOrMany(&Shape::Leaf(&WORDS))),
            "Fields of the form that is sent, and their values. What is not a plain form may hold any: the strictest \
             verdict counts.",
        ),
        key(
            "json",
            Shape::Names(&MEMBER, &Shape::OneOrMany(&Shape::Leaf(&WORDS))),
            "Members of the JSON document that is sent (a.b is the member b of a), and their texts. What is not plain \
             JSON may hold any: the strictest verdict counts.",
        ),
        key(
            "posture",
            Shape::OneOrMany(&Shape::Leaf(&POSTURE)),
            "How careful the gate is at the moment (`stepgate posture`): normal, elevated, lockdown.",
        ),
        later("country", "The country of the client's address."),
    ],
};
static REDIRECT: MapShape = MapShape {
    what: "`redirect`",
    keys: &[
        required(
            "to",
            Shape::Leaf(&REDIRECT_TARGET),
            "A path or an address; /** at its end keeps the rest of the path.",
        ),
        key(
            "status",
            Shape::Leaf(&REDIRECT_STATUS),
            "301, 302, 303, 307 or 308. Default 307, which keeps method and form.",
        ),
    ],
};
static RESPOND: MapShape = MapShape {
    what: "`respond`",
    keys: &[
        key("status", Shape::Leaf(&RESPOND_STATUS), "200 to 299, or 400 to 599. Default 200."),
        key("body", Shape::Leaf(&BODY), "The text of the answer."),
        key(
            "file",
            Shape::Leaf(&PATH),
            "A file beside the main file or below it, at most 1 MiB; read at start and at every reload.",
        ),
        key(
            "type",
            Shape::Leaf(&MEDIA_TYPE),
            "Its Content-Type. Default: by the ending of the file; text/plain for a body.",
        ),
    ],
};
static RULE: MapShape = MapShape {
    what: "a rule",
    keys: &[
        key("name", Shape::Leaf(&RULE_NAME), "For logs, explain and the audit trail. Default: rule-N."),
        required("match", Shape::Map(&MATCH), "What the rule selects; every condition must hold."),
        key("allow", Shape::List(&Shape::Leaf(&WHO)), "Who may pass; everyone else is denied. Default: the app's."),
        key("require", Shape::Leaf(&LEVEL_REF), "The level that must be shown. Default: the app's."),
        key(
            "redirect",
            Shape::Either(&[Shape::Leaf(&REDIRECT_TARGET), Shape::Map(&REDIRECT)]),
            "Who passes is sent there instead of to the app: /app/, https://new.example/**, or a map with more.",
        ),
        key(
            "respond",
            Shape::Either(&[Shape::Leaf(&RESPOND_STATUS), Shape::Map(&RESPOND)]),
            "Who passes gets this instead of the app's answer: a status such as 404, or a map with more.",
        ),
        key("deny", Shape::Leaf(&SENTENCE), "Nobody passes; this sentence tells the person why."),
        key(
            "keep_body",
            Shape::Leaf(&KEEP_BODY),
            "The largest form that is kept when more must be shown first, up to 16MiB; 0B keeps none. Default 256KiB.",
        ),
        key(
            "lockdown",
            Shape::Leaf(&LOCKDOWN),
            "open: the rule holds in the posture `lockdown` too, which closes all else. Default: the app's.",
        ),
        key(
            "shadow",
            Shape::Leaf(&BOOL),
            "true: the rule is judged, logged and counted, and not enforced; the next rules decide. Default false.",
        ),
    ],
};
static APP_COOKIE_NAMES: MapShape = MapShape {
    what: "`app_cookies`",
    keys: &[
        key(
            "seal",
            Shape::OneOrMany(&Shape::Leaf(&COOKIE_NAME)),
            "Further cookies to seal: those of a session that scripts may read and whose name does not tell.",
        ),
        key(
            "pass",
            Shape::OneOrMany(&Shape::Leaf(&COOKIE_NAME)),
            "Cookies that stay as the app wrote them: something beside the gate or a script reads them.",
        ),
    ],
};
static EXCEPTION: MapShape = MapShape {
    what: "an exception",
    keys: &[
        required("who", Shape::OneOrMany(&Shape::Leaf(&WHO)), "Whom it is for: user:NAME, group:NAME; never anyone."),
        required(
            "rules",
            Shape::OneOrMany(&Shape::Leaf(&RULE_NAME)),
            "The rules of this app whose level it stands in for; `default` means the app's own `require`.",
        ),
        required(
            "require",
            Shape::Leaf(&LEVEL_REF),
            "The level that is enough in place of the rule's, never none. `allow` and `deny` hold as before.",
        ),
        required(
            "until",
            Shape::Leaf(&UNTIL),
            "When it ends: a time (RFC 3339), or a date, whose whole day in UTC still counts.",
        ),
        required("approved_by", Shape::Leaf(&WORDS), "Who took it upon themselves."),
        required("ticket", Shape::Leaf(&WORDS), "Where it was asked for and approved; stands in the access log."),
        key("reason", Shape::Leaf(&WORDS), "Why, for whoever reads the file."),
    ],
};
static TEST: MapShape = MapShape {
    what: "a test",
    keys: &[
        key("get", Shape::Leaf(&TARGET), "A GET request to this path."),
        key("head", Shape::Leaf(&TARGET), "A HEAD request to this path."),
        key("post", Shape::Leaf(&TARGET), "A POST request to this path."),
        key("put", Shape::Leaf(&TARGET), "A PUT request to this path."),
        key("patch", Shape::Leaf(&TARGET), "A PATCH request to this path."),
        key("delete", Shape::Leaf(&TARGET), "A DELETE request to this path."),
        key("options", Shape::Leaf(&TARGET), "An OPTIONS request to this path."),
        key("copy", Shape::Leaf(&TARGET), "A WebDAV COPY request to this path."),
        key("move", Shape::Leaf(&TARGET), "A WebDAV MOVE request to this path."),
        key(
            "destination",
            Shape::Leaf(&TARGET),
            "Where `copy` or `move` writes to, replacing what is there: a path, or an address on the app's first host.",
        ),
        key("as", Shape::Leaf(&USER), "Who asks. Default: nobody is signed in."),
        key("groups", Shape::List(&Shape::Leaf(&GROUP)), "Their groups."),
        key(
            "at",
            Shape::Leaf(&LEVEL_REF),
            "What they have shown: just enough for this level, as long ago as it allows. Default: their password.",
        ),
        key(
            "enrolled",
            Shape::Leaf(&BOOL),
            "false: they never had a second factor, so that the `grace` of a level is theirs. Default true.",
        ),
        key("from", Shape::Leaf(&IP), "The client's address."),
        key("time", Shape::Leaf(&TIME), "The moment, RFC 3339."),
        key("posture", Shape::Leaf(&POSTURE), "The posture in force. Default: normal."),
        required("expect", Shape::Leaf(&EXPECT), "allow, challenge LEVEL, deny or reject."),
        key(
            "form",
            Shape::Names(&WORDS, &Shape::OneOrMany(&Shape::Leaf(&ANY_TEXT))),
            "It sends a form with these fields; a list is a field that stands there more than once.",
        ),
        key("json", Shape::Leaf(&JSON_TEXT), "It sends this JSON document, as a text: '{\"action\": \"delete\"}'."),
        key(
            "unreadable",
            Shape::Leaf(&BOOL),
            "true: it sends a body that no rule can look into, such as a form with a file.",
        ),
    ],
};
static APP_KEYS: [Key; 21] = [
    required("app", Shape::Leaf(&APP_NAME), "The app's name: a-z, 0-9 and -."),
    key("title", Shape::Leaf(&WORDS), "For people. Default: the name."),
    required(
        "hosts",
        Shape::OneOrMany(&Shape::Leaf(&HOST)),
        "Public hosts, with a port only where it is not the scheme's own.",
    ),
    key(
        "upstream",
        Shape::Map(&UPSTREAM),
        "Where the app lives. Needed, unless the rules answer everything themselves.",
    ),
    key("identity", Shape::Map(&IDENTITY), "What the app is told about the person."),
    key("paths", Shape::Map(&PATHS), "How the app reads paths."),
    key("allow", Shape::List(&Shape::Leaf(&WHO)), "Who may use the app. Default: any account."),
    key("require", Shape::Leaf(&LEVEL_REF), "The level for every path. Default: mfa."),
    key(
        "lockdown",
        Shape::Leaf(&LOCKDOWN),
        "open: the app is as ever in the posture `lockdown`, which closes all else. Default closed.",
    ),
    key("rules", Shape::List(&Shape::Map(&RULE)), "Top to bottom; the first that matches decides."),
    key("tests", Shape::List(&Shape::Map(&TEST)), "Run by check, test, and before every reload."),
    key("max_body", Shape::Leaf(&SIZE), "The largest request body. Default 1GiB."),
    key(
        "judge_body",
        Shape::Leaf(&JUDGE_BODY),
        "The largest body that rules with `form` or `json` look into, 1KiB to 1MiB; a larger one may hold anything. \
         Default 64KiB.",
    ),
    key("websocket_origins", Shape::List(&Shape::Leaf(&WORDS)), "Further origins that may open WebSockets."),
    key(
        "harden",
        Shape::Leaf(&HARDEN),
        "enforce: no changes from other sites' pages (403), and the safety headers and cookie flags that the app does \
         not send itself. report_only: only say in the access log what would be refused. Default off.",
    ),
    key(
        "trusted_origins",
        Shape::List(&Shape::Leaf(&WORDS)),
        "Further origins whose pages may send what changes something, under `harden`: https://sso.example.",
    ),
    key(
        "cookie_domains",
        Shape::List(&Shape::Leaf(&WORDS)),
        "Domain values that the app may set on its cookies. Default: none, they are cut to the host.",
    ),
    key("tunnel_idle", Shape::Leaf(&DURATION), "A WebSocket without traffic is closed after this long. Default 10m."),
    key(
        "app_cookies",
        Shape::Either(&[Shape::Leaf(&APP_COOKIES), Shape::Map(&APP_COOKIE_NAMES)]),
        "seal: what the app sets with HttpOnly, or under the name of a session, is of no use to the next person at \
         the browser. none: it is. A map names cookies. Default seal.",
    ),
    later("idle_ignores", "Paths that do not keep a session alive."),
    key(
        "exceptions",
        Shape::List(&Shape::Map(&EXCEPTION)),
        "Who is let off the level of which rules, until when and on whose word.",
    ),
];
static APP_MAP: MapShape = MapShape { what: "an app", keys: &APP_KEYS };
static MAIN_MAP: MapShape = MapShape {
    what: "the main file",
    keys: &[
        required("version", Shape::Leaf(&VERSION), "The version of this language: 1."),
        required("listen", Shape::List(&Shape::Map(&LISTEN)), "Where Stepgate listens, and as what."),
        key(
            "networks",
            Shape::Names(&NETWORK_NAME, &Shape::OneOrMany(&Shape::Leaf(&CIDR))),
            "Networks by name, for `from` and `trusted_proxies`.",
        ),
        key(
            "trusted_proxies",
            Shape::OneOrMany(&Shape::Leaf(&NETWORK)),
            "Only these may say who the client is. Default: nobody.",
        ),
        key("portal", Shape::Map(&PORTAL), "Where people sign in."),
        key("admin", Shape::Map(&ADMIN), "The admin console. Not used yet in this version."),
        key(
            "state",
            Shape::Leaf(&PATH),
            "Directory of the database and the key ring. Default: `state` beside this file.",
        ),
        key("store", Shape::Map(&STORE), "PostgreSQL in place of the embedded database."),
        key("sessions", Shape::Map(&SESSIONS), "How long sessions last."),
        key("factors", Shape::Map(&FACTORS), "Settings of the factors."),
        key("smtp", Shape::Map(&SMTP), "The relay that takes our mail. Without it nobody is written to."),
        key("sms", Shape::Map(&SMS), "The gateway that sends our text messages, one HTTP call each."),
        key(
            "levels",
            Shape::Names(&LEVEL_NAME, &Shape::Map(&LEVEL)),
            "What \"enough\" means, by name. Built in: none, password, mfa, fresh, strong.",
        ),
        key("compliance", Shape::Map(&COMPLIANCE), "Standards that the files are held against."),
        key(
            "postures",
            Shape::Map(&POSTURES),
            "What changes when `stepgate posture` says that the gate is to be more careful.",
        ),
        key(
            "include",
            Shape::OneOrMany(&Shape::Leaf(&PATH)),
            "Files of apps, in this directory or below: apps.d/*.yaml.",
        ),
        key(
            "watch",
            Shape::Leaf(&BOOL),
            "false: changed files are taken at a reload (SIGHUP) alone, not by themselves. Certificates are looked at \
             all the same. Default true.",
        ),
        key("apps", Shape::List(&Shape::Map(&APP_MAP)), "Apps that need no file of their own."),
    ],
};

/// The main file.
pub static MAIN: Shape = Shape::Map(&MAIN_MAP);
/// A file with one app.
pub static APP: Shape = Shape::Map(&APP_MAP);

fn not_blank(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("an empty text stands here".to_owned()) } else { Ok(()) }
}

fn word(text: &str, what: &str) -> Result<(), String> {
    let fine = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if fine {
        Ok(())
    } else {
        Err(format!("{text:?} is no name of a {what}: letters, digits, - _ . and at most 63 of them"))
    }
}
