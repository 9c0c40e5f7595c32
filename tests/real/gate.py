"""The built gate, run as its operators run it: a file, `serve`, and the commands beside it."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pyotp
from apps import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target"))
STEPGATE = Path(os.environ.get("STEPGATE_BINARY", TARGET / "debug/stepgate"))


@dataclass
class Account:
    """What a person keeps in the head and in the phone."""

    name: str
    password: str
    totp: pyotp.TOTP | None = None
    used: int = -1

    def code(self) -> str:
        """The next code that was not used yet. The phone may be one step ahead of the gate
        (`drift: 1`), so that two confirmations in a row need no wait; a third one waits."""
        step = max(int(time.time()) // 30, self.used + 1)
        while step > int(time.time()) // 30 + 1:
            time.sleep(0.2)
        self.used = step
        return self.totp.at(step * 30)


class Gate:
    """`stepgate serve` on loopback with TLS, a portal, and apps that are told by their own file.

    `clear`: without TLS, for programs that do not speak it."""

    def __init__(self, home: Path, apps: list[dict], main: dict | None = None, clear: bool = False) -> None:
        self.home = home
        self.port = free_port()
        names = ["login"] + [name for app in apps for name in app["hosts"]]
        certificates = home / "tls"
        self.ca = make_certificate(certificates, [self.host(name).partition(":")[0] for name in names])
        self.tls = ssl.create_default_context(cafile=str(self.ca))
        self.scheme = "http" if clear else "https"
        tls = {} if clear else {"tls": {"certificates": str(certificates)}}
        self.config = home / "stepgate.yaml"
        settings = {
            "version": 1,
            "listen": [
                {"addr": f"127.0.0.1:{self.port}", "role": "proxy", **tls},
                {"addr": "127.0.0.1:0", "role": "ops"},
            ],
            "portal": {"host": self.host("login"), "title": "Example Corp", "help": "Service desk, ext. 4000"},
            "state": str(home / "state"),
        } | (main or {})
        settings["apps"] = [app | {"hosts": [self.host(name) for name in app["hosts"]]} for app in apps]
        self.config.write_text(json.dumps(settings, indent=2))  # JSON is YAML
        self.log = home / "serve.log"
        self.process: subprocess.Popen | None = None
        self.ops = ""

    def host(self, name: str) -> str:
        """`localhost` itself is for programs whose resolver knows no other name of loopback."""
        return f"localhost:{self.port}" if name == "localhost" else f"{name}.localhost:{self.port}"

    def url(self, name: str, path: str = "/") -> str:
        return f"{self.scheme}://{self.host(name)}{path}"

    def run(self, *words: str, given: str | None = None, code: int = 0) -> str:
        """One command beside the running gate."""
        done = subprocess.run(
            [STEPGATE, *words, "--config", str(self.config)], input=given, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, f"stepgate {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def add(self, name: str, *, groups: tuple[str, ...] = ("staff",), display: str | None = None) -> Account:
        """A person who has set everything up: a password, and the authenticator app."""
        account = Account(name, f"{name} walks to the harbour at nine")
        words = ["user", "add", name, "--password-stdin", "--display", display or name.title()]
        for group in groups:
            words += ["--group", group]
        self.run(*words, given=account.password)
        told = self.run("factor", "add", name, "totp", "--json")
        account.totp = pyotp.parse_uri(re.search(r"otpauth://[^\s\"\\]+", told).group())
        return account

    def start(self) -> Gate:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [STEPGATE, "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            self.ops = self.ops or self._ops_address()
            try:
                if self.ops:
                    urllib.request.urlopen(f"http://{self.ops}/readyz", timeout=2).close()
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the gate did not get ready:\n{self.log.read_text(errors='replace')[-4000:]}")

    def _ops_address(self) -> str:
        for line in self.log.read_text(errors="replace").splitlines():
            if "listening" in line and "ops" in line:
                found = re.search(r"127\.0\.0\.1:\d+", line)
                if found:
                    return found.group()
        return ""

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def make_certificate(folder: Path, hosts: list[str], authority: bool = True) -> Path:
    """A certificate that signs itself for these hosts; its own file is what clients trust. Some clients
    (rustls) take none that is an authority too."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stepgate tests")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "gate.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path = folder / "gate.key"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    key_path.chmod(0o600)
    return path
