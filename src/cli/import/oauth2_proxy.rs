//! oauth2-proxy's .cfg and alpha YAML in our language: one app, what is behind it, and the routes that ask nobody.

use toml_edit::{DocumentMut, Item, Value as Toml};

use super::authelia::scalar;
use super::rules::{Converted, Kept, Row, duration, network, path_of};
use super::written::{App, Line, Written, list, plain, quoted, short};
use crate::config::yaml::{self, Node, Value};
use crate::domain::host::{HostName, Scheme};
use crate::domain::user::GroupName;

/// One entry of their `upstreams`.
struct Upstream {
    path: String,
    uri: String,
    insecure: bool,
    rewrites: bool,
}

/// What the files say, whichever form they have.
#[derive(Default)]
struct Settings {
    upstreams: Vec<Upstream>,
    groups: Vec<String>,
    /// Header name and claim.
    headers: Vec<(String, String)>,
    cfg: DocumentMut,
    alpha: bool,
    /// Keys of alpha files that say nothing here.
    others: Vec<String>,
}

/// What is said by others of our keys, or means nothing at a gate with people of its own.
const CARRIED: [&str; 29] = [
    "email_domains",
    "authenticated_emails_file",
    "upstreams",
    "redirect_url",
    "skip_auth_routes",
    "skip_auth_regex",
    "skip_auth_preflight",
    "trusted_ips",
    "trusted_proxy_ips",
    "reverse_proxy",
    "allowed_groups",
    "cookie_expire",
    "cookie_refresh",
    "cookie_name",
    "cookie_secret",
    "cookie_secret_file",
    "cookie_secure",
    "cookie_httponly",
    "cookie_domains",
    "pass_host_header",
    "pass_user_headers",
    "set_xauthrequest",
    "ssl_upstream_insecure_skip_verify",
    "http_address",
    "https_address",
    "proxy_websockets",
    "skip_provider_button",
    "htpasswd_file",
    "htpasswd_user_groups",
];

pub fn convert(files: &[(String, String)], host: Option<String>) -> anyhow::Result<Converted> {
    let mut settings = Settings::default();
    for (name, text) in files {
        if name.ends_with(".yaml") || name.ends_with(".yml") {
            settings.read_alpha(name, text)?;
        } else {
            let cfg: DocumentMut = text.parse().map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            for (key, item) in cfg.iter() {
                settings.cfg.insert(key, item.clone());
            }
        }
    }
    let named: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    settings.finish(&named.join(" and "), host)
}

impl Settings {
    fn read_alpha(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        self.alpha = true;
        let root = yaml::parse(text)
            .map_err(|error| anyhow::anyhow!("{name}:{}:{}: {}", error.at.line, error.at.column, error.message))?;
        let is_true = |node: Option<&Node>| node.is_some_and(|node| matches!(node.value, Value::Bool(true)));
        let upstreams = root.get("upstreamConfig").and_then(|config| config.get("upstreams"));
        for entry in upstreams.map(Node::items).unwrap_or_default() {
            let field = |key: &str| entry.get(key).map(scalar).unwrap_or_default();
            let uri =
                if is_true(entry.get("static")) { format!("static://{}", field("staticCode")) } else { field("uri") };
            self.upstreams.push(Upstream {
                path: field("path"),
                uri,
                insecure: is_true(entry.get("insecureSkipTLSVerify")),
                rewrites: !field("rewriteTarget").is_empty(),
            });
        }
        for provider in root.get("providers").map(Node::items).unwrap_or_default() {
            self.groups.extend(provider.get("allowedGroups").map(Node::items).unwrap_or_default().iter().map(scalar));
        }
        for header in root.get("injectRequestHeaders").map(Node::items).unwrap_or_default() {
            let values = header.get("values").map(Node::items).unwrap_or_default();
            // With `claimSource` around it in the first alpha versions.
            let claim = values.first().and_then(|v| v.get("claim").or_else(|| v.get("claimSource")?.get("claim")));
            let claim = claim.map(scalar);
            self.headers.push((header.get("name").map(scalar).unwrap_or_default(), claim.unwrap_or_default()));
        }
        let known = ["upstreamConfig", "providers", "injectRequestHeaders", "server"];
        self.others.extend(root.entries().iter().map(|e| e.key.clone()).filter(|key| !known.contains(&key.as_str())));
        Ok(())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.cfg.get(key).and_then(Item::as_str).map(str::to_owned).filter(|text| !text.is_empty())
    }

    /// A switch; their examples write it as a text too.
    fn is_on(&self, key: &str) -> Option<bool> {
        let item = self.cfg.get(key)?;
        item.as_bool().or_else(|| item.as_str().and_then(|text| text.parse().ok()))
    }

    fn many(&self, key: &str) -> Vec<String> {
        match self.cfg.get(key).and_then(Item::as_value) {
            Some(Toml::Array(items)) => items.iter().filter_map(Toml::as_str).map(str::to_owned).collect(),
            Some(Toml::String(text)) => {
                text.value().split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn finish(mut self, file: &str, host: Option<String>) -> anyhow::Result<Converted> {
        for uri in self.many("upstreams") {
            let path = uri.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
            let path = path.unwrap_or("/").split('#').next().unwrap_or("/").to_owned();
            let insecure = self.is_on("ssl_upstream_insecure_skip_verify") == Some(true);
            self.upstreams.push(Upstream { path, uri, insecure, rewrites: false });
        }
        let host = match host.or_else(|| self.host()) {
            Some(host) => host,
            None => anyhow::bail!("{file}: no `redirect_url` says which host people open: name it by --host HOST"),
        };
        let mut rows = Vec::new();
        let rules = self.open_routes(file, &mut rows);
        let mut head = vec!["app: app".to_owned(), format!("hosts: [{}]", plain(&host))];
        self.upstream(&mut head, &mut rows);
        self.identity(&mut head);
        self.allow(&mut head, &mut rows);
        head.push(
            "# How many factors were asked for was the provider's affair; here it is said: mfa, or password."
                .to_owned(),
        );
        head.push("require: mfa".to_owned());
        rows.push(Row {
            number: 0,
            before: "everything else: signed in at the provider".to_owned(),
            app: "app".to_owned(),
            after: "the app's own: require: mfa".to_owned(),
            kept: Kept::Noted,
        });
        let main = self.main(file, &host);
        let written = Written { main, apps: vec![App { name: "app".to_owned(), head, rules }] };
        Ok(Converted { written, rows })
    }

    fn host(&self) -> Option<String> {
        let url = self.text("redirect_url")?;
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = rest.split('/').next()?.to_ascii_lowercase();
        HostName::parse(host.as_bytes(), Scheme::Https).is_ok().then_some(host)
    }

    fn open_routes(&self, file: &str, rows: &mut Vec<Row>) -> Vec<Line> {
        let mut rules = Vec::new();
        let mut add = |before: String, parts: Result<(String, Option<String>), String>| {
            let number = rows.len() + 1;
            let mut comments = vec![format!("{file}: {before}")];
            let (rule, after, kept) = match parts {
                Ok((parts, note)) => {
                    let kept = if note.is_some() { Kept::Noted } else { Kept::Exactly };
                    comments.extend(note);
                    let body = format!("match: {{ {parts} }}, allow: [anyone], require: none");
                    (Some(format!("{{ name: open-{number}, {body} }}")), body, kept)
                }
                Err(why) => {
                    comments.push(format!("left out: {why}. Whoever needs it signs in."));
                    (None, "signs in".to_owned(), Kept::LeftOut)
                }
            };
            rows.push(Row { number, before, app: "app".to_owned(), after, kept });
            rules.push(Line { comments, rule });
        };
        if self.is_on("skip_auth_preflight") == Some(true) {
            add("skip_auth_preflight".to_owned(), Ok(("methods: [OPTIONS]".to_owned(), None)));
        }
        for text in self.many("trusted_ips") {
            let net = network(&text).map(|net| (format!("from: [{}]", plain(&net)), None));
            add(format!("trusted_ips: {}", short(&text)), net.ok_or_else(|| "it is no network".to_owned()));
        }
        for (key, text) in ["skip_auth_routes", "skip_auth_regex"]
            .into_iter()
            .flat_map(|key| self.many(key).into_iter().map(move |text| (key, text)))
        {
            // METHOD=REGEX, METHOD!=REGEX (every other one), or REGEX alone.
            let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
            let (methods, regex) = match text.split_once('=').filter(|_| key == "skip_auth_routes") {
                Some((method, regex)) if word(method) => (Some(method.to_ascii_uppercase()), regex),
                Some((method, _)) if method.strip_suffix('!').is_some_and(word) => {
                    let why = "ours name methods, not all but one";
                    add(format!("{key}: {}", short(&text)), Err(why.to_owned()));
                    continue;
                }
                _ => (None, text.as_str()),
            };
            let parts = path_of(regex, true).map(|(path, note)| match &methods {
                Some(method) => (format!("path: {path}, methods: {}", list([method.as_str()])), note),
                None => (format!("path: {path}"), note),
            });
            add(format!("{key}: {}", short(&text)), parts);
        }
        rules
    }

    fn upstream(&self, head: &mut Vec<String>, rows: &mut Vec<Row>) {
        let usable = |upstream: &&Upstream| upstream.uri.starts_with("http://") || upstream.uri.starts_with("https://");
        let root = self.upstreams.iter().filter(usable).find(|u| u.path == "/" || u.path.is_empty());
        let chosen = root.or_else(|| self.upstreams.iter().find(usable));
        for other in self.upstreams.iter().filter(|u| !chosen.is_some_and(|chosen| std::ptr::eq(chosen, *u))) {
            let uri = short(&other.uri);
            let why = match other.uri.split("://").next() {
                Some("http" | "https") => "one app has one server here: give it a host of its own",
                Some("static") => "a rule with `respond` answers for it",
                _ => "files are not served here",
            };
            head.push(format!("# The upstream {uri} is left out: {why}."));
            rows.push(Row {
                number: rows.len() + 1,
                before: format!("upstream {uri}"),
                app: "app".to_owned(),
                after: why.to_owned(),
                kept: Kept::LeftOut,
            });
        }
        let mut parts = Vec::new();
        match chosen {
            Some(upstream) => {
                let (scheme, rest) = upstream.uri.split_once("://").unwrap_or(("http", &upstream.uri));
                let authority = rest.split(['/', '#', '?']).next().unwrap_or(rest);
                parts.push(format!("urls: [{}]", quoted(&format!("{scheme}://{authority}"))));
                if upstream.path.len() > 1 {
                    head.push(format!(
                        "# It answered below {} alone; here it answers for the whole host.",
                        short(&upstream.path)
                    ));
                }
                if upstream.rewrites {
                    head.push("# rewriteTarget is left out: paths are sent on as they come.".to_owned());
                }
                if upstream.insecure {
                    head.push("# Better than this: `ca: FILE`, the authority of the app's certificate.".to_owned());
                    parts.push("dangerously_insecure: true".to_owned());
                }
            }
            None => {
                head.push(
                    "# No upstream is a server: oauth2-proxy asked another proxy's questions. Write the app's address."
                        .to_owned(),
                );
                parts.push("urls: [\"http://app.invalid\"]".to_owned());
            }
        }
        if self.is_on("pass_host_header") == Some(false) {
            parts.push("preserve_host: false".to_owned());
        }
        head.push(format!("upstream: {{ {} }}", parts.join(", ")));
    }

    fn identity(&self, head: &mut Vec<String>) {
        let mut dialects = Vec::new();
        if self.is_on("pass_user_headers") != Some(false) && !self.alpha {
            dialects.push("oauth2-proxy".to_owned());
        }
        if self.is_on("set_xauthrequest") == Some(true) {
            dialects.push("x-auth-request".to_owned());
        }
        for (name, claim) in &self.headers {
            let value = match claim.as_str() {
                "user" | "preferred_username" => "user",
                "email" => "email",
                "groups" => "groups",
                "sub" => "subject",
                "" => {
                    head.push(format!(
                        "# The header {} is left out: it carries no claim. A secret goes by {{ {}: {{ file: FILE }} }}.",
                        short(name),
                        short(name)
                    ));
                    continue;
                }
                _ => {
                    head.push(format!(
                        "# The header {} is left out: nothing here is its claim {}.",
                        short(name),
                        short(claim)
                    ));
                    continue;
                }
            };
            if http::HeaderName::from_bytes(name.as_bytes()).is_ok() {
                dialects.push(format!("{{ {name}: {value} }}"));
            }
        }
        if !dialects.is_empty() {
            head.push(format!("identity: {{ headers: [{}] }}", dialects.join(", ")));
        }
        for key in ["pass_basic_auth", "pass_access_token", "pass_authorization_header", "set_authorization_header"] {
            if self.is_on(key) == Some(true) {
                head.push(format!(
                    "# {key} has nothing like it here: there is no token of a provider, and no password is passed on."
                ));
            }
        }
    }

    fn allow(&self, head: &mut Vec<String>, rows: &mut Vec<Row>) {
        let mut groups = self.many("allowed_groups");
        groups.extend(self.groups.iter().cloned());
        let good: Vec<String> = groups
            .iter()
            .filter(|group| GroupName::parse(group).is_ok())
            .map(|group| format!("group:{group}"))
            .collect();
        for bad in groups.iter().filter(|group| GroupName::parse(group).is_err()) {
            head.push(format!("# The group {} has no name that a group can have here.", short(bad)));
        }
        if !groups.is_empty() {
            // Nobody at all, rather than everybody, where no name can be carried.
            let names = if good.is_empty() { vec!["group:nobody".to_owned()] } else { good };
            let allow = format!("allow: {}", list(names.iter().map(String::as_str)));
            rows.push(Row {
                number: rows.len() + 1,
                before: short(&format!("allowed_groups: {}", groups.join(", "))),
                app: "app".to_owned(),
                after: allow.clone(),
                kept: Kept::Exactly,
            });
            head.push(allow);
        }
        let domains: Vec<String> = self.many("email_domains").into_iter().filter(|domain| domain != "*").collect();
        if !domains.is_empty() {
            let who = if groups.is_empty() { "every account of this gate" } else { "whoever `allow` names" };
            let domains = short(&domains.join(", "));
            head.push(format!(
                "# email_domains ({domains}) is left out: {who} may open the app, whatever their address."
            ));
        }
        if let Some(path) = self.text("authenticated_emails_file") {
            head.push(format!("# Whom {} names: give them accounts and a group, and `allow` that.", short(&path)));
        }
    }

    fn main(&self, file: &str, host: &str) -> Vec<String> {
        let mut lines = vec![format!(
            "# Made by `stepgate import oauth2-proxy` from {}. Read the notes, then `stepgate check`.",
            short(file)
        )];
        let mut others: Vec<&str> = self.cfg.iter().map(|(key, _)| key).filter(|key| !CARRIED.contains(key)).collect();
        others.extend(self.others.iter().map(String::as_str));
        if !others.is_empty() {
            lines.push(format!("# Nothing was taken from: {}.", others.join(", ")));
        }
        lines.push("# People sign in at this gate itself, with accounts of its own (`stepgate user add`).".to_owned());
        if let Some(path) = self.text("htpasswd_file") {
            lines.push(format!("# Those of the htpasswd file come by `stepgate import htpasswd {}`.", short(&path)));
        }
        lines.extend([
            "version: 1".to_owned(),
            "listen:".to_owned(),
            "  - { addr: \"[::]:443\", role: proxy, tls: { certificates: /etc/stepgate/tls } }".to_owned(),
            "  - { addr: \"[::]:80\", role: redirect }".to_owned(),
        ]);
        let proxies: Vec<String> = self.many("trusted_proxy_ips").iter().filter_map(|text| network(text)).collect();
        let all = |net: &String| net.ends_with("/0");
        if !proxies.is_empty() && !proxies.iter().any(all) {
            lines.push(format!("trusted_proxies: {}", list(proxies.iter().map(String::as_str))));
        } else if self.is_on("reverse_proxy") == Some(true) {
            lines.push(
                "# reverse_proxy: name the proxy in front, or its word on who the client is does not count.".to_owned(),
            );
            lines.push("# trusted_proxies: [10.0.0.0/8]".to_owned());
        }
        lines.push(format!("# Without a portal people sign in at {host} itself, under /.stepgate/."));
        if let Some(secs) = self.text("cookie_expire").and_then(|text| super::rules::seconds(&text)) {
            lines.push(
                "# A session ends after `idle` without a request, too: 15m where nothing else is said.".to_owned(),
            );
            lines.push(format!("sessions: {{ max: {} }}", duration(secs)));
        }
        lines
    }
}
