//! A person at a browser without JavaScript: cookies, redirects, forms with their hidden fields.

use std::net::SocketAddr;

use super::http::{Reply, exchange};

/// A browser with its own cookie jar. All hosts lead to the gate's one address.
#[derive(Clone, Debug)]
pub struct Browser {
    pub gate: SocketAddr,
    /// (host, name, value)
    pub cookies: Vec<(String, String, String)>,
    /// Sent on every request, as a browser does.
    pub headers: Vec<(String, String)>,
}

/// Where a browser stands: the page and the address that led to it.
#[derive(Clone, Debug)]
pub struct Page {
    pub url: String,
    pub reply: Reply,
}

impl Browser {
    pub fn new(gate: SocketAddr) -> Self {
        let headers = vec![
            ("accept".into(), "text/html,application/xhtml+xml,*/*;q=0.8".into()),
            ("user-agent".into(), "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".into()),
        ];
        Self { gate, cookies: Vec::new(), headers }
    }

    /// A program: no `text/html` in Accept.
    pub fn program(gate: SocketAddr) -> Self {
        Self { gate, cookies: Vec::new(), headers: vec![("accept".into(), "application/json".into())] }
    }

    /// Puts a cookie into the jar by hand, in place of one of that name.
    pub fn give(&mut self, host: &str, name: &str, value: &str) {
        self.cookies.retain(|(h, n, _)| h != host || n != name);
        self.cookies.push((host.to_owned(), name.to_owned(), value.to_owned()));
    }

    pub fn cookie(&self, host: &str, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(h, n, _)| h == host && n == name).map(|(_, _, v)| v.as_str())
    }

    /// One request, no redirect followed. `url` is `http://host/path?query`.
    pub fn request(&mut self, method: &str, url: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Reply {
        let (host, target) = split(url);
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        let own = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        for (name, value) in own.filter(|(n, _)| !headers.iter().any(|(m, _)| m.eq_ignore_ascii_case(n))) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let jar: Vec<String> =
            self.cookies.iter().filter(|(h, _, _)| *h == host).map(|(_, n, v)| format!("{n}={v}")).collect();
        if !jar.is_empty() {
            head.push_str(&format!("cookie: {}\r\n", jar.join("; ")));
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        let reply = exchange(self.gate, &bytes).unwrap_or_else(|| panic!("no answer to {method} {url}"));
        self.keep_cookies(&host, &reply);
        reply
    }

    fn keep_cookies(&mut self, host: &str, reply: &Reply) {
        for field in reply.headers("set-cookie") {
            let mut parts = field.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|p| p.split_once('=')) else { continue };
            let ended = parts.any(|p| p.eq_ignore_ascii_case("max-age=0"));
            self.cookies.retain(|(h, n, _)| h != host || n != name);
            if !ended {
                self.cookies.push((host.into(), name.into(), value.into()));
            }
        }
    }

    /// GET, redirects not followed.
    pub fn get(&mut self, url: &str) -> Reply {
        self.request("GET", url, &[], None)
    }

    /// Opens an address as a person does: redirects are followed.
    pub fn open(&mut self, url: &str) -> Page {
        let reply = self.get(url);
        self.follow(url, reply)
    }

    fn follow(&mut self, url: &str, mut reply: Reply) -> Page {
        let mut url = url.to_owned();
        for _ in 0..10 {
            if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
                return Page { url, reply };
            }
            url = join(&url, reply.location());
            reply = self.get(&url);
        }
        panic!("a redirect loop at {url}");
    }

    /// Fills in the form whose action ends in `action` (or the first form with a text field) and
    /// sends it: hidden fields are copied, `fields` are typed. Redirects are followed.
    pub fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let (url, body) = self.fill(page, fields);
        let reply = self.post(&url, &body);
        self.follow(&url, reply)
    }

    pub fn post(&mut self, url: &str, body: &str) -> Reply {
        let (host, _) = split(url);
        let origin = format!("http://{host}");
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin.as_str())];
        self.request("POST", url, &headers, Some(body.as_bytes()))
    }

    /// The address and body of the form that has all of `fields`.
    pub fn fill(&self, page: &Page, fields: &[(&str, &str)]) -> (String, String) {
        let html = page.reply.text();
        let form = forms(&html)
            .into_iter()
            .find(|form| fields.iter().all(|(name, _)| form.fields.iter().any(|(n, _, _)| n == name)))
            .unwrap_or_else(|| panic!("no form with {fields:?} at {}: {html}", page.url));
        let mut body = form_urlencoded::Serializer::new(String::new());
        for (name, value, hidden) in &form.fields {
            let typed = fields.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
            if let Some(value) = typed.or(hidden.then_some(value.as_str())) {
                body.append_pair(name, value);
            }
        }
        (join(&page.url, &form.action), body.finish())
    }
}

struct Form {
    action: String,
    /// name, value, hidden
    fields: Vec<(String, String, bool)>,
}

fn forms(html: &str) -> Vec<Form> {
    let mut found = Vec::new();
    for part in html.split("<form").skip(1) {
        let inside = part.split("</form>").next().unwrap_or_default();
        let (tag, rest) = inside.split_once('>').unwrap_or((inside, ""));
        let mut fields = Vec::new();
        for control in rest.split('<').filter(|c| {
            ["input", "button", "textarea", "select"]
                .iter()
                .any(|k| c.strip_prefix(k).is_some_and(|r| r.starts_with([' ', '>', '\n'])))
        }) {
            let Some(name) = attribute(control, "name") else { continue };
            let hidden = attribute(control, "type").as_deref() == Some("hidden");
            fields.push((name, attribute(control, "value").unwrap_or_default(), hidden));
        }
        found.push(Form { action: attribute(tag, "action").unwrap_or_default(), fields });
    }
    found
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let at = tag.find(&format!(" {name}=\"")).or_else(|| tag.find(&format!("\n{name}=\"")))?;
    let value = tag[at + name.len() + 3..].split('"').next()?;
    let plain = value
        .replace("&quot;", "\"")
        .replace("&#x27;", "'")
        .replace("&#x2f;", "/")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    Some(plain.replace("&amp;", "&"))
}

/// Host and target of an address.
fn split(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("no http:// in {url}"));
    let rest = rest.split('#').next().unwrap_or_default();
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let target = if at == rest.len() { "/".to_owned() } else { rest[at..].to_owned() };
    (rest[..at].to_owned(), target)
}

fn join(base: &str, reference: &str) -> String {
    if reference.starts_with("http://") {
        return reference.to_owned();
    }
    let (host, target) = split(base);
    if reference.is_empty() {
        return format!("http://{host}{target}");
    }
    assert!(reference.starts_with('/'), "a relative reference: {reference}");
    format!("http://{host}{reference}")
}

/// Somebody with an account.
#[derive(Clone, Debug)]
pub struct Person {
    pub name: String,
    pub password: String,
    /// The authenticator's secret, base32; `None` when none is enrolled.
    pub seed: Option<String>,
}
