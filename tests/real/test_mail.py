"""Our mail at a mail server of other people (aiosmtpd), read by a mail library of other people (Python's)."""

from __future__ import annotations

import email
import email.policy
import os
import re
import signal
import ssl
import time
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from apps import free_port
from gate import Account, Gate, make_certificate
from person import Person

LOGIN = ("apikey", "SG.not-a-real-key")


class Relay:
    """STARTTLS and a login before any mail, as the big relays want it."""

    def __init__(self, home: Path) -> None:
        self.certificate = make_certificate(home / "relay-tls", ["localhost"], authority=False)
        self.port = free_port()
        self.caught: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self.encrypted: list[bool] = []
        self.controller: Controller | None = None

    async def handle_DATA(self, _server, session, envelope) -> str:
        self.raw.append(envelope.content)
        self.encrypted.append(session.ssl is not None)
        self.caught.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return f"250 2.0.0 Ok: queued as {len(self.caught)}"

    def start(self) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.certificate.with_suffix(".key"))

        def check(_server, _session, _envelope, _mechanism, data) -> AuthResult:
            return AuthResult(success=(data.login.decode(), data.password.decode()) == LOGIN)

        self.controller = Controller(
            self, hostname="127.0.0.1", port=self.port, tls_context=context, require_starttls=True,
            auth_required=True, authenticator=check,
        )  # fmt: skip
        self.controller.start()

    def stop(self) -> None:
        if self.controller:
            self.controller.stop()
            self.controller = None

    def wait(self, mails: int) -> list[EmailMessage]:
        deadline = time.monotonic() + 60
        while len(self.caught) < mails:
            assert time.monotonic() < deadline, f"{len(self.caught)} of {mails} mails came: {self.subjects()}"
            time.sleep(0.05)
        return self.caught

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.caught]


@pytest.fixture
def relay(tmp_path: Path):
    relay = Relay(tmp_path)
    yield relay
    relay.stop()


@pytest.fixture
def gate(relay: Relay, tmp_path: Path):
    (tmp_path / "key").write_text(LOGIN[1] + "\n")
    smtp = {
        "host": "localhost", "port": relay.port, "username": LOGIN[0], "password": {"file": str(tmp_path / "key")},
        "ca": str(relay.certificate), "from": "Société Exemple <gate@corp.example>", "reply_to": "help@corp.example",
    }  # fmt: skip
    main = {
        "smtp": smtp,
        "factors": {"first_login": "0s", "email": {"codes": True}},
        "levels": {"mailed": {"factors": 2, "max_age": "10m", "kinds": ["totp", "email"]}},
    }
    (tmp_path / "gate").mkdir()
    app = {"app": "wiki", "hosts": ["wiki"], "upstream": {"urls": ["http://127.0.0.1:9"]}, "require": "mailed"}
    gate = Gate(tmp_path / "gate", [app | {"rules": [{"match": {"path": "/"}, "respond": 204}]}], main)
    yield gate
    gate.stop()


def again(gate: Gate) -> None:
    """Starts it anew: where it listens now stands in a log of its own."""
    gate.log.write_text("")
    gate.ops = ""
    gate.start()


def link(mail: EmailMessage) -> str:
    return re.search(r"https://\S+", mail.get_content()).group()


def test_a_test_mail_arrives_as_a_mail_library_reads_it(gate: Gate, relay: Relay) -> None:
    relay.start()
    told = gate.run("mail", "test", "ann@example.org")
    assert "over TLS" in told and "queued as 1" in told, told
    mail = relay.wait(1)[0]
    assert relay.encrypted == [True]
    assert mail["From"].addresses[0].display_name == "Société Exemple"
    assert (str(mail["To"]), str(mail["Reply-To"])) == ("ann@example.org", "help@corp.example")
    assert mail["Auto-Submitted"] == "auto-generated" and mail["Message-ID"].endswith("@corp.example>")
    assert mail["Date"].datetime.tzinfo is not None
    assert mail.get_content_type() == "text/plain" and "This is a test" in mail.get_content()
    assert max(map(len, relay.raw[0].split(b"\r\n"))) <= 998, "RFC 5322 section 2.1.1"
    assert relay.raw[0].isascii(), "no relay needs 8BITMIME for it"


def test_no_notice_is_lost_or_doubled_over_a_kill_and_a_relay_that_is_away(gate: Gate, relay: Relay) -> None:
    people = ["ann", "bea", "cem", "dov", "eli"]
    gate.start()
    for name in people:
        gate.run("user", "add", name, "--email", f"{name}@corp.example", "--password-stdin", given=f"{name} walks slowly home")
        gate.run("factor", "add", name, "totp", "--json")
    os.killpg(gate.process.pid, signal.SIGKILL)
    gate.process.wait()
    for name in people:
        gate.run("user", "set-password", name, "--password-stdin", given=f"{name} walks home by another road")
    relay.start()
    again(gate)
    relay.wait(10)
    gate.stop()
    again(gate)
    gate.run("user", "set-password", "ann", "--password-stdin", given="ann takes the bus home today")
    relay.wait(11)
    assert len({mail["Message-ID"] for mail in relay.caught}) == 11, "each came once"
    for name in people[1:]:
        told = sorted(str(mail["Subject"]) for mail in relay.caught if str(mail["To"]) == f"{name}@corp.example")
        assert told == ["Example Corp: a way to sign in was added", "Example Corp: your password was changed"]


def test_bob_confirms_by_mail_and_says_that_it_was_not_him(gate: Gate, relay: Relay) -> None:
    relay.start()
    gate.start()
    words = "bob walks slowly home"
    gate.run("user", "add", "bob", "--email", "bob@corp.example", "--password-stdin", given=words)
    bob = Person(gate, Account("bob", words))
    page = bob.visit(gate.url("wiki"))
    page = bob.submit(page, page.form_with("password"), username="bob", password=words)
    assert "/login/email" in page.url, page
    page = bob.submit(page, next(form for form in page.forms if "send" in form.buttons), send="1")
    code = re.search(r"\b(\d{6})\b", relay.wait(1)[0].get_content()).group(1)
    page = bob.submit(page, page.form_with("code"), code=code)
    assert (page.status, page.url) == (204, gate.url("wiki")), page
    mail = relay.wait(2)[1]
    assert str(mail["Subject"]) == "Example Corp: a new device signed in"

    stranger = Person(gate, bob.account)
    page = stranger.visit(link(mail))
    assert page.status == 200 and bob.visit(gate.url("wiki")).status == 204, "opening it does nothing"
    page = stranger.submit(page, page.form_with("link"))
    assert "Every device is signed out" in page.text, page.text
    assert "/login" in bob.visit(gate.url("wiki")).url
    assert "new_device" in gate.run("incident", "list")
    incident = re.search(r"[0-9a-f-]{36}", gate.run("incident", "list", "--json")).group()
    gate.run("incident", "close", incident, "--note", "it was the tablet")
    assert gate.run("incident", "list").strip() == "No incident is open."
