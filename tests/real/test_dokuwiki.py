"""DokuWiki behind the gate: an old PHP app with form tokens, uploads and cookies of its own."""

from __future__ import annotations

import re

import pytest
from apps.dokuwiki import DokuWiki

# The smallest PNG there is.
DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060"
    "00000005000187a1d23a0000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = DokuWiki(home / "app")
    yield gate_for([{"app": "wiki", "hosts": ["wiki"], "upstream": {"urls": [app.url]}, **app.gate}])
    app.stop()


def test_dokuwiki_knows_the_name_and_the_groups(gate, person_of):
    ann = person_of(gate, display="Ann Archer", groups=("staff", "admins"))
    page = ann.sign_in(gate.url("wiki", "/doku.php?id=start"))
    assert re.search(rf"Logged in as:.*Ann Archer.*{ann.account.name}", page.text, re.S), page.text[:3000]
    assert "do=admin" in page.text, "the group from the header makes an administrator of the wiki"
    guest = person_of(gate, groups=("visitors",))
    page = guest.sign_in(gate.url("wiki", "/doku.php?id=start"))
    assert "Permission Denied" in page.text, "the wiki's own rules hold for whom the gate names"


def test_a_page_is_written_with_the_wiki_s_own_form(gate, person_of):
    ann = person_of(gate)
    page = ann.sign_in(gate.url("wiki", "/doku.php?id=harbour&do=edit"))
    form = page.form_with("wikitext")
    assert form.fields["sectok"], "the wiki's token against forged forms, from its own session"
    saved = ann.submit(page, form, wikitext="====== Harbour ======\nBoats & ships <b>\n", **{"do[save]": "1"})
    assert saved.status == 200 and 'id="harbour">Harbour</h1>' in saved.text, saved.text[:3000]
    assert "Boats &amp; ships &lt;b&gt;" in saved.text
    history = ann.visit(gate.url("wiki", "/doku.php?id=harbour&do=revisions"))
    assert ann.account.name in history.text


def test_a_picture_is_uploaded_and_shown(gate, person_of):
    ann = person_of(gate)
    page = ann.sign_in(gate.url("wiki", "/doku.php?id=start&do=media&ns=&tab_files=upload"))
    token = re.search(r'name="sectok" value="([0-9a-f]+)"', page.text).group(1)
    done = ann.http.post(
        gate.url("wiki", "/lib/exe/ajax.php"),
        data={"call": "mediaupload", "sectok": token, "ns": "", "mediaid": "dot.png", "ow": "1"},
        files={"qqfile": ("dot.png", DOT, "image/png")},
        headers={"Origin": gate.url("wiki", "")},
    )
    assert done.status_code == 200, done.text
    shown = ann.http.get(gate.url("wiki", "/lib/exe/fetch.php?media=dot.png"))
    assert (shown.status_code, shown.headers["content-type"], shown.content) == (200, "image/png", DOT)


def test_the_wiki_s_cookies_live_beside_the_gate_s(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("wiki", "/doku.php?id=start"))
    ours = [cookie.name for cookie in ann.http.cookies.jar if "wiki" in cookie.domain]
    assert "DokuWiki" in ours and "__Host-Http-stepgate" in ours, ours
    first = ann.http.cookies.get("DokuWiki")
    ann.visit(gate.url("wiki", "/doku.php?id=other"))
    assert ann.http.cookies.get("DokuWiki") == first, "its session goes on"
