"""Apps as their packages bring them, each with a habit of its own: a check of the Host, a check of
where a form comes from, an upload and a download without an end."""

from __future__ import annotations

import base64
import socket

import httpx
import pytest
from apps.django_admin import DjangoAdmin
from apps.icecast import Icecast
from apps.transmission import Transmission

APPS = {"transmission": Transmission, "icecast": Icecast, "django": DjangoAdmin}


@pytest.fixture(scope="module")
def apps(home):
    running = {name: app(home / name) for name, app in APPS.items()}
    yield running
    for app in running.values():
        app.stop()


@pytest.fixture(scope="module")
def gate(gate_for, apps):
    own = [{"app": name, "hosts": [name], "upstream": {"urls": [app.url]}, **app.gate} for name, app in apps.items()]
    # It answers 421 to any Host but its own.
    transmission = {"urls": [apps["transmission"].url], "preserve_host": False}
    return gate_for(own + [{"app": "torrents", "hosts": ["torrents"], "upstream": transmission}])


def test_an_app_that_checks_its_host_is_told_its_own(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("torrents", "/transmission/web/"))
    rpc, call = gate.url("torrents", "/transmission/rpc"), {"method": "session-get"}
    first = ann.http.post(rpc, json=call)
    assert first.status_code == 409, first.text
    token = {"X-Transmission-Session-Id": first.headers["x-transmission-session-id"]}
    assert ann.http.post(rpc, json=call, headers=token).json()["result"] == "success"
    moved = ann.http.get(gate.url("torrents", "/"), follow_redirects=False)
    assert moved.headers["location"].startswith((gate.url("torrents"), "/transmission/"))
    # With the public name it is the app that refuses, and says so itself.
    ann.visit(gate.url("transmission", "/transmission/web/"))
    refused = ann.http.post(gate.url("transmission", "/transmission/rpc"), json=call)
    assert (refused.status_code, "rpc-host-whitelist" in refused.text) == (421, True)


def test_an_app_that_checks_where_a_form_comes_from_takes_it(gate, person_of):
    ann = person_of(gate)
    page = ann.sign_in(gate.url("django", "/admin/auth/group/add/"))
    assert ann.account.name in page.text.lower(), "Django knows who it is"
    form = next(form for form in page.forms if "name" in form.fields)
    saved = ann.submit(page, form, name="Crew & été", _save="Save")
    assert saved.url == gate.url("django", "/admin/auth/group/"), saved
    assert "Crew &amp; été" in saved.text
    found = ann.visit(gate.url("django", "/admin/auth/group/?q=%C3%A9t%C3%A9&o=-1"))
    assert "1 group" in found.text
    # From another site's page it is refused, by the app.
    forged = ann.http.post(
        gate.url("django", "/admin/auth/group/add/"), data=form.fields | {"name": "x"}, headers={"Origin": "https://a.example"}
    )
    assert (forged.status_code, "CSRF" in forged.text) == (403, True)


def test_music_comes_and_goes_without_an_end_until_the_session_ends(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("icecast", "/status-json.xsl"))
    host = gate.host("icecast")
    with gate.tls.wrap_socket(socket.create_connection(("127.0.0.1", gate.port), 20), server_hostname="icecast.localhost") as source:
        password = base64.b64encode(b"source:hackme").decode()
        source.sendall(
            f"PUT /boats.mp3 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic {password}\r\nCookie: {ann.cookies(host)}\r\n"
            "Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert source.recv(1000).startswith(b"HTTP/1.1 100 ")
        piece = b"4000\r\n" + b"\xff\xfb" * 8192 + b"\r\n"
        source.sendall(piece)
        # The answer comes while the upload goes on.
        assert source.recv(1000).startswith(b"HTTP/1.1 200 ")
        source.sendall(piece * 8)
        with ann.http.stream("GET", gate.url("icecast", "/boats.mp3"), headers={"Icy-MetaData": "1"}) as music:
            assert (music.status_code, music.headers["icy-metaint"]) == (200, "16000")
            heard = music.iter_raw()
            assert len(next(heard)) > 0
            source.sendall(piece * 8)
            assert len(next(heard)) > 0
            gate.run("session", "end", "--user", ann.account.name)
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                for _ in heard:
                    pass
        # The upload ends as well: the app is not left with half a stream that goes on.
        with pytest.raises(OSError):
            for _ in range(2000):
                source.sendall(piece)
