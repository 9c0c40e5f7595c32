"""Apache behind the gate: WebDAV as its own judge sees it, git, PHP, and large files."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from apps.apache import Apache

PUBLIC = {"allow": ["anyone"], "require": "none"}
#: Where a fragment in a request line ends, nobody behind hyper can see (docs/CONFORMANCE.md).
FRAGMENT = "delete_fragment"


@pytest.fixture(scope="module")
def app(home):
    app = Apache(home / "app")
    yield app
    app.stop()


@pytest.fixture(scope="module")
def gate(gate_for, app):
    upstream = {"urls": [app.url]}
    vault = {"name": "vault", "match": {"path": "/dav/vault/**"}, "deny": "The vault is closed."}
    return gate_for(
        [
            {"app": "apache", "hosts": ["apache"], "upstream": upstream, **app.gate, "rules": [vault]},
            # litmus signs in nowhere, and its resolver knows no other name of loopback.
            {"app": "dav", "hosts": ["localhost"], "upstream": upstream, **app.gate, **PUBLIC},
        ]
    )


@pytest.mark.parametrize("suite", ["basic", "copymove", "props", "locks"])
def test_litmus_judges_the_webdav_server_as_it_does_without_the_gate(gate, app, tmp_path, suite):
    def judged(url: str) -> dict[str, str]:
        done = subprocess.run(
            ["litmus", "-k", url], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=os.environ | {"TESTS": suite}
        )  # fmt: skip
        # A progress line is written over: `3. copy_simple........  3. copy_simple........ pass`.
        found = dict(re.findall(r"\d+\. (\w+)\.*(?: +\d+\. \w+\.*)? (\S[^.\n]*)$", done.stdout, re.M))
        assert len(found) > 5, done.stdout
        return found

    direct, through = judged(app.url + "/dav/"), judged(f"https://localhost:{gate.port}/dav/")
    direct.pop(FRAGMENT, None), through.pop(FRAGMENT, None)
    assert through == direct
    assert set(direct.values()) <= {"pass"} | {verdict for verdict in direct.values() if "WARNING" in verdict}


def test_nothing_is_moved_or_copied_to_where_a_rule_says_no(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("apache", "/text.txt"))
    assert ann.http.put(gate.url("apache", "/dav/note"), content=b"x").status_code == 201
    for method in ("MOVE", "COPY"):
        for place in (gate.url("apache", "/dav/vault/note"), "/dav/vault/note", "/dav/v%61ult/note"):
            answer = ann.http.request(method, gate.url("apache", "/dav/note"), headers={"Destination": place})
            assert answer.status_code == 403, (method, place, answer.text)
    assert list((app.home / "www/dav/vault").iterdir()) == []
    moved = ann.http.request("MOVE", gate.url("apache", "/dav/note"), headers={"Destination": gate.url("apache", "/dav/other")})
    assert (moved.status_code, moved.headers["location"]) == (201, gate.url("apache", "/dav/other"))


def test_git_clones_and_pushes_and_the_app_knows_who(gate, app, person_of, tmp_path):
    ann = person_of(gate)
    ann.sign_in(gate.url("apache", "/text.txt"))
    app.repository("boats.git")
    url = gate.url("apache", "/git/boats.git")

    def git(*words: str, where=tmp_path) -> str:
        cookie = ann.cookies(gate.host("apache"))
        settings = [f"http.extraHeader=Cookie: {cookie}", "user.name=a", "user.email=a@b.example"]
        options = [word for setting in settings for word in ("-c", setting)]
        trust = os.environ | {"GIT_SSL_CAINFO": str(gate.ca), "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(["git", *options, *words], cwd=where, env=trust, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"git {words}: {done.stderr}"
        return done.stdout

    git("init", "-q", "-b", "main", "first")
    first = tmp_path / "first"
    for number in range(300):
        (first / f"{number}.txt").write_text(f"{number}\n" * 200)
    # More than git's post buffer: it goes without a stated length.
    (first / "large.bin").write_bytes(os.urandom(20_000_000))
    git("add", ".", where=first)
    git("commit", "-q", "-m", "all", where=first)
    git("push", "-q", url, "main", where=first)
    git("clone", "-q", "-b", "main", url, "second")
    assert (tmp_path / "second/large.bin").read_bytes() == (first / "large.bin").read_bytes()
    (tmp_path / "second/7.txt").write_text("seven")
    git("commit", "-q", "-a", "-m", "seven", where=tmp_path / "second")
    git("push", "-q", "origin", "main", where=tmp_path / "second")
    git("pull", "-q", url, "main", where=first)
    assert (first / "7.txt").read_text() == "seven"
    log = (app.home / "git/boats.git/logs/refs/heads/main").read_text()
    assert f" {ann.account.name} <{ann.account.name}@" in log, log


def test_php_reads_the_rest_of_a_path_and_its_own_many_cookies(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("apache", "/text.txt"))
    first = ann.http.get(gate.url("apache", "/show.php/été/x%40y?a=b%2Fc&d"))
    assert first.json() == {
        "info": "/été/x@y", "query": "a=b%2Fc&d", "user": ann.account.name, "via": "stepgate", "method": "GET",
        "cookies": 0, "length": 0,
    }  # fmt: skip
    assert len(first.headers.get_list("set-cookie")) == 40
    public = gate.url("apache", "/show.php")
    assert (first.headers["content-location"], first.headers["refresh"]) == (public, f"600; url={public}")
    again = ann.http.post(gate.url("apache", "/show.php"), content=b"x" * 3000, headers={"Expect": "100-continue"})
    assert (again.json()["cookies"], again.json()["length"], again.json()["method"]) == (40, 3000, "POST")
    assert ann.http.get(gate.url("apache", "/dir"), follow_redirects=False).headers["location"] == gate.url("apache", "/dir/")


def test_answers_come_whole_packed_and_in_parts_as_the_app_cuts_them(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("apache", "/text.txt"))
    text = (app.home / "www/text.txt").read_text()
    packed = ann.http.get(gate.url("apache", "/text.txt"), headers={"Accept-Encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.text) == ("gzip", text)
    head = ann.http.head(gate.url("apache", "/text.txt"), headers={"Accept-Encoding": "identity"})
    assert (head.headers["content-length"], head.content) == (str(len(text)), b"")
    same = ann.http.get(gate.url("apache", "/text.txt"), headers={"If-None-Match": head.headers["etag"], "Accept-Encoding": "identity"})
    assert (same.status_code, same.content) == (304, b"")
    for ranges, status in (("0-9,50-59,-5", 206), ("5-", 206), ("9999999-", 416)):
        fields = {"Range": f"bytes={ranges}", "Accept-Encoding": "identity"}
        through = ann.http.get(gate.url("apache", "/text.txt"), headers=fields)
        direct = ann.http.get(app.url + "/text.txt", headers=fields)
        assert through.status_code == direct.status_code == status
        assert through.headers.get("content-range") == direct.headers.get("content-range")
        whole = direct.headers["content-type"].partition("boundary=")[2].encode()
        part = through.headers["content-type"].partition("boundary=")[2].encode()
        assert (through.content.replace(part, b"") if part else through.content) == (
            direct.content.replace(whole, b"") if whole else direct.content
        ), ranges


def test_more_than_a_gibibyte_comes_and_goes(gate, app, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("apache", "/text.txt"))
    size, piece = (1 << 30) + 12345, bytes(1 << 20)
    with (app.home / "www/large.bin").open("wb") as file:
        file.truncate(size - 4)
        file.seek(size - 4)
        file.write(b"last")
    with ann.http.stream("GET", gate.url("apache", "/large.bin")) as answer:
        assert answer.headers["content-length"] == str(size)
        assert sum(len(part) for part in answer.iter_raw()) == size
    assert ann.http.get(gate.url("apache", "/large.bin"), headers={"Range": "bytes=-4"}).content == b"last"

    def pieces():
        yield from (piece for _ in range(1 << 10))
        yield b"the end"

    assert ann.http.put(gate.url("apache", "/dav/large.bin"), content=pieces()).status_code == 201
    kept = app.home / "www/dav/large.bin"
    assert kept.stat().st_size == (1 << 30) + 7
    kept.unlink()
