"""copyparty behind the gate: large files, and names of every kind."""

from __future__ import annotations

import hashlib
import os
from urllib.parse import quote

import pytest
from apps.copyparty import SECRET_HEADER, Copyparty, CopypartyAlone


@pytest.fixture(scope="module")
def app(home):
    app = Copyparty(home / "app")
    yield app
    app.stop()


@pytest.fixture(scope="module")
def gate(gate_for, app):
    return gate_for([{"app": "files", "hosts": ["files"], "upstream": {"urls": [app.url]}, **app.gate}])


def test_copyparty_takes_the_account_from_the_gate(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("files"))
    listing = ann.http.get(gate.url("files", "/?ls")).json()
    assert listing["acct"] == ann.account.name
    assert "write" in listing["perms"], "its own rules give more to a known account"


def test_the_app_believes_no_client_that_knows_the_names_of_the_headers(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("files"))
    forged = {"Remote-User": "root", SECRET_HEADER: "guess", "X-Forwarded-For": "127.0.0.1"}
    assert ann.http.get(gate.url("files", "/?ls"), headers=forged).json()["acct"] == ann.account.name
    # Around the gate, without its secret, the header is worth nothing.
    assert ann.http.get(app.url + "/?ls", headers={"Remote-User": "root"}).json()["acct"] == "*"


@pytest.mark.parametrize(
    "name",
    ["plain.txt", "two words.txt", "été à Zürich.txt", "日本.txt", "a+b=c,d.txt", "it's (new) [1].txt", "@team!.txt",
     "semi;colon.txt", "~tilde_$1.txt", "a&b.txt"],
)  # fmt: skip
def test_a_file_keeps_its_name(gate, app, person_of, name):
    ann = person_of(gate)
    ann.sign_in(gate.url("files"))
    # A `;` raw, as the rule allows it; as %3B it stays refused.
    url = gate.url("files", "/" + quote(name, safe=";"))
    put = ann.http.put(url, content=name.encode(), headers={"Accept": "application/json"})
    assert put.status_code in (200, 201), put.text
    assert (app.home / "files" / name).read_text() == name
    assert ann.http.get(url).content == name.encode()


def test_a_large_file_arrives_whole_and_in_parts(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("files"))
    content = os.urandom(30_000_000)

    def pieces():
        for at in range(0, len(content), 50_000):
            yield content[at : at + 50_000]

    url = gate.url("files", "/large.bin")
    assert ann.http.put(url, content=pieces()).status_code in (200, 201), "a body without a stated length"
    assert hashlib.sha256((app.home / "files/large.bin").read_bytes()).digest() == hashlib.sha256(content).digest()
    assert ann.http.get(url).content == content
    part = ann.http.get(url, headers={"Range": "bytes=12345678-23456789"})
    assert part.status_code == 206
    assert part.content == content[12345678:23456790]


def test_the_app_s_own_upload_form_works(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("files"))
    answer = ann.http.post(
        gate.url("files"), data={"act": "bput"}, files={"f": ("form.txt", b"by form")}, headers={"Origin": gate.url("files", "")}
    )
    assert answer.status_code in (200, 201), answer.text
    assert (app.home / "files/form.txt").read_bytes() == b"by form"


@pytest.mark.parametrize("path", ["/%2e%2e/etc/passwd", "/a/../b", "/a%2fb", "/a%5cb", "/%00", "/a%252e", "//a"])
def test_spellings_that_the_app_was_not_allowed_are_refused(gate, person_of, path):
    import http.client

    connection = http.client.HTTPSConnection("127.0.0.1", gate.port, context=_unchecked())
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", gate.host("files"))
    connection.endheaders()
    assert connection.getresponse().status == 400


def _unchecked():
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize(("binding", "inherits"), [("seal", False), ("none", True)])
def test_s_cook_5_who_signed_in_at_the_app_is_forgotten_with_their_session_at_the_gate(
    gate_for, home, person_of, binding, inherits
):
    app = CopypartyAlone(home / f"alone-{binding}")
    own = {"app": "files", "hosts": ["files"], "upstream": {"urls": [app.url]}, "app_cookies": binding, **app.gate}
    gate = gate_for([own])
    account = lambda who: who.http.get(gate.url("files", "/?ls")).json()["acct"]  # noqa: E731
    ann, bob = person_of(gate), person_of(gate)
    ann.sign_in(gate.url("files"))
    ann.http.post(gate.url("files", "/"), files={"act": (None, "login"), "cppwd": (None, app.PASSWORD)})
    assert account(ann) == "lee"
    # Bob sits down at her browser.
    bob.http = ann.http
    page = ann.visit(gate.url("files", "/.stepgate/logout"))
    ann.submit(page, next(form for form in page.forms if form.method == "post"))
    bob.sign_in(gate.url("files"))
    assert account(bob) == ("lee" if inherits else "*")
    if not inherits:
        bob.http.post(gate.url("files", "/"), files={"act": (None, "login"), "cppwd": (None, app.PASSWORD)})
        assert account(bob) == "lee", "a cookie of his own works"
    app.stop()
