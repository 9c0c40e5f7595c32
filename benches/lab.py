"""A gate, its rivals and an app on loopback: what benches/compare and benches/instructions start with.

Standard library and Debian's own programs only. Nothing listens but on 127.0.0.1, and all files are in
one temporary directory that goes with the Lab.
"""

import base64
import glob
import hashlib
import hmac
import html.parser
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PASSWORD = "ann walks slowly home"
HOST, PASSWORD_HOST, PORTAL = "app.test", "desk.test", "login.test"
SMALL = "x" * 1024
# What a browser sends; the Cookie field is added to it.
BROWSER = {
    "Host": HOST,
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": f"http://{HOST}/area7/",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}
OTHER_COOKIES = "theme=dark; sid=8f14e45fceea167a5a36dedd4bea2543; lang=en"


def need(tools):
    """`tools` maps a program to its Debian package. Ends the script with the list of what is missing."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for tool, package in tools.items() if not shutil.which(tool)})
    if missing:
        sys.exit(f"{sys.argv[0]}: these Debian packages are missing: apt-get install {' '.join(missing)}")


def build(*more):
    """The gate, the steps and `more` benches, as a release is built; their paths. With one command always: the steps
    bring the features of dev-dependencies, and a command without them would compile the library once more."""
    benches = [word for name in ("steps", *more) for word in ("--bench", name)]
    command = [os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", "--bin", "stepgate", *benches,
               "--message-format=json-render-diagnostics"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    messages = (json.loads(line) for line in done.stdout.splitlines())
    made = {m["target"]["name"]: m["executable"] for m in messages if m.get("executable")}
    return [made[name] for name in ("stepgate", "steps", *more)]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def raise_file_limit(wish=65536):
    """As many open files as we may have. Only root may go above the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(wish, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return limit
        except (ValueError, PermissionError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def totp(seed):
    """RFC 6238, so that no program is needed for it."""
    key = base64.b32decode(seed + "=" * (-len(seed) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at:at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


def processes(pid):
    """The process and all that descend from it."""
    todo, found = [pid], []
    while todo:
        one = todo.pop()
        found.append(one)
        for children in glob.glob(f"/proc/{one}/task/*/children"):
            try:
                todo += map(int, open(children).read().split())
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def cpu_seconds(pid):
    """User and system time of a process tree; threads that ended count too, unlike in `task/*/schedstat`."""
    ticks = 0
    for one in processes(pid):
        fields = open(f"/proc/{one}/stat").read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    """Proportional set size: pages that master and worker share count once."""
    kib = 0
    for one in processes(pid):
        kib += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{one}/smaps_rollup").read(), re.M)[1])
    return kib / 1024


class Form(html.parser.HTMLParser):
    """The first form of a page and its hidden fields."""

    def __init__(self, text):
        super().__init__()
        self.fields, self.action = {}, ""
        self.feed(text[text.index("<form"):])

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "form" and not self.action:
            self.action = a.get("action", "")
        if tag == "input" and a.get("type") == "hidden":
            self.fields.setdefault(a["name"], a.get("value", ""))


class Browser:
    """A person with a cookie jar, over plain HTTP."""

    def __init__(self, port):
        self.port, self.jar = port, {}

    def ask(self, method, url, form=None):
        u = urllib.parse.urlsplit(url)
        cookies = self.jar.setdefault(u.netloc, {})
        headers = {"Host": u.netloc, "Accept": "text/html", "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
        data = None
        if form is not None:
            data = urllib.parse.urlencode(form)
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://{u.netloc}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, u.path + ("?" + u.query if u.query else ""), data, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        for value in answer.headers.get_all("Set-Cookie") or []:
            name, _, rest = value.partition("=")
            cookies[name] = rest.split(";")[0]
        if answer.status in (302, 303):
            return self.ask("GET", urllib.parse.urljoin(url, answer.headers["Location"]))
        return url, answer.status, text

    def submit(self, page, **typed):
        url, _, text = page
        form = Form(text)
        return self.ask("POST", urllib.parse.urljoin(url, form.action), form.fields | typed)

    def cookie(self, host):
        return "; ".join(f"{k}={v}" for k, v in self.jar[host].items())


class Lab:
    """Directory, ports, children. Use it as a context: it ends what it started."""

    def __init__(self, binary, people=("ann",)):
        self.binary, self.people = os.path.abspath(binary), people
        if not os.path.exists(self.binary):
            sys.exit(f"{self.binary} is not there: cargo build --release")
        self.children = []

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="stepgate-lab-")
        # nginx started by root works as another account.
        os.chmod(self.dir, 0o755)
        self.gate_port, self.gate_tls_port, self.ops_port, self.upstream_port = (free_port() for _ in range(4))
        self.env = os.environ | {"STEPGATE_CONFIG": f"{self.dir}/stepgate.yaml"}
        return self

    def __exit__(self, *_):
        for child in list(self.children):
            self.stop(child)
        shutil.rmtree(self.dir, ignore_errors=True)

    def write(self, name, text):
        path = f"{self.dir}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.write(text)
        return path

    def start(self, core, *command, **how):
        """`core`: a number, or None for all of them."""
        pin = [] if core is None else ["taskset", "-c", str(core)]
        child = subprocess.Popen([*pin, *command], **how)
        self.children.append(child)
        return child

    def stop(self, child):
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self.children.remove(child)

    def wait_for(self, port, child, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if child.poll() is not None or time.monotonic() > deadline:
                    logs = "".join(open(f, errors="replace").read()[-2000:] for f in glob.glob(f"{self.dir}/*.err"))
                    sys.exit(f"nothing listens on {port}\n{logs}")
                time.sleep(0.05)

    def certificate(self):
        """P-256, for every name; `tls/all.crt` with its key, and both in one file for HAProxy."""
        os.makedirs(f"{self.dir}/tls", exist_ok=True)
        crt, key = f"{self.dir}/tls/all.crt", f"{self.dir}/tls/all.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", key, "-out", crt, "-subj", "/CN=bench", "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", f"subjectAltName=DNS:{HOST},DNS:{PASSWORD_HOST},DNS:{PORTAL},DNS:localhost"],
            check=True, capture_output=True)  # fmt: skip
        os.chmod(key, 0o600)
        self.write("haproxy.pem", open(crt).read() + open(key).read())

    def gate_config(self, tls):
        """Everything on: session, two factors, 50 rules, identity headers, assertion, access log, metrics."""
        listen = [
            {"addr": f"127.0.0.1:{self.gate_port}", "role": "proxy"},
            {"addr": f"127.0.0.1:{self.ops_port}", "role": "ops"},
        ]
        if tls:
            listen.append(
                {"addr": f"127.0.0.1:{self.gate_tls_port}", "role": "proxy", "tls": {"certificates": f"{self.dir}/tls"}}
            )
        upstream = {"urls": [f"http://127.0.0.1:{self.upstream_port}"]}
        rules = [
            {"name": f"r{i}", "match": {"path": f"/area{i}/**", "methods": ["GET", "POST"]},
             "allow": ["group:staff"], "require": "mfa"}
            for i in range(50)
        ]  # fmt: skip
        identity = {"headers": ["remote-user"], "assertion": True}
        wiki = {"app": "wiki", "hosts": [HOST], "upstream": upstream, "identity": identity, "allow": ["group:staff"],
                "require": "mfa", "rules": rules}  # fmt: skip
        desk = {"app": "desk", "hosts": [PASSWORD_HOST], "upstream": upstream, "require": "password"}
        settings = {"version": 1, "listen": listen, "portal": {"host": PORTAL, "title": "Bench"},
                    "state": f"{self.dir}/state", "apps": [wiki, desk]}  # fmt: skip
        self.write("stepgate.yaml", json.dumps(settings))  # JSON is YAML
        for name in self.people:
            add = [self.binary, "user", "add", name, "--group", "staff", "--password-stdin"]
            subprocess.run(add, env=self.env, input=f"{PASSWORD}\n".encode(), check=True, stdout=subprocess.DEVNULL)
        told = subprocess.run([self.binary, "factor", "add", self.people[0], "totp", "--json"], env=self.env, check=True,
                              capture_output=True, text=True).stdout  # fmt: skip
        self.seed = re.search(r"otpauth://[^\"]*[?&]secret=([A-Z2-7]+)", told)[1]

    def start_gate(self, core, threads, under=()):
        """`under`: a program that runs it, such as valgrind."""
        threads = ["--threads", str(threads)] if threads else []
        with open(f"{self.dir}/access.log", "a") as out, open(f"{self.dir}/gate.err", "a") as err:
            gate = self.start(core, *under, self.binary, "serve", *threads, env=self.env, stdout=out, stderr=err)
        self.wait_for(self.gate_port, gate, 120)
        return gate

    def sign_in(self):
        """Ann signs in with password and code. Her browser's fields, with all of her cookies."""
        ann = Browser(self.gate_port)
        page = ann.submit(ann.ask("GET", f"http://{HOST}/area7/page"), username=self.people[0], password=PASSWORD)
        url, status, text = ann.submit(page, code=totp(self.seed))
        if status != 200 or text != SMALL:
            sys.exit(f"the sign-in ended at {url} with {status}: {text[:300]}")
        return BROWSER | {"Cookie": f"{ann.cookie(HOST)}; {OTHER_COOKIES}"}


def request_head(path, headers, method="GET"):
    fields = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode()
