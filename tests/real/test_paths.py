"""Nobody reaches a back end's handler by a spelling that the gate reads as another path (S-PATH-3),
and what ordinary clients ask arrives as they wrote it."""

from __future__ import annotations

import collections
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from apps.path_readers import READERS
from spellings import Wire, corpus, single

EVERYBODY = {"allow": ["anyone"], "require": "none"}
ALLOW = {"allow": ["encoded_slash", "path_params", "double_slash"]}
CLOSED = ["/admin/x", "/admin/x.php", "/admin/run/index.php", "/hidden.php"]
#: Everybody may come, but not there; and nobody may come, but there.
POLICIES = {
    "open": EVERYBODY | {"rules": [{"match": {"path": CLOSED}, "deny": "Not you."}]},
    "closed": {"allow": ["group:nobody"], "rules": [{"match": {"path": "/static/**"}, **EVERYBODY}]},
}


def configurations(reader) -> list[tuple[str, str, dict]]:
    """A name, a policy, and what the reader's admin may say of how it reads paths."""
    own = {"like": reader.like} if reader.like else {}
    every = [("open-none", "open", {}), ("open-allow", "open", own | ALLOW), ("closed-allow", "closed", own | ALLOW)]
    return every + [("open-like", "open", own)] * bool(own)


@pytest.fixture(scope="module")
def readers(home):
    with ThreadPoolExecutor() as pool:
        running = list(pool.map(lambda reader: reader(home / reader.name), READERS))
    yield {app.name: app for app in running}
    for app in running:
        app.stop()


@pytest.fixture(scope="module")
def gate(gate_for, readers):
    apps = [
        {"app": name, "hosts": [name], "upstream": {"urls": [app.url]}, "paths": forms, **POLICIES[policy]}
        for app in readers.values()
        for word, policy, forms in configurations(app)
        for name in [f"{app.name}-{word}"]
    ]
    return gate_for(apps, clear=True)


def answers(gate, host: str, targets: list[bytes], fields: bytes = b"") -> list[tuple[bytes, int, bytes]]:
    wire = Wire(gate.port, gate.host(host))
    found = [(target, *wire.get(target, fields)) for target in targets]
    wire.close()
    return found


#: For the last two: an app may leave the name of its file out.
UNNAMED = "/admin/run /admin/run/ /admin/run/? /admin/run%20/ /index.php/admin/run/ /hidden /hidden/ /hidden.php /hidden.php/x".split()
SPELLINGS = {
    "open": [spelling.encode() for spelling in single("/admin/x") + UNNAMED] + corpus(),
    "closed": [b"/static" + spelling.encode() for spelling in single("/admin/x")] + corpus(),
}


@pytest.fixture(scope="module")
def refused() -> dict[str, set[bytes]]:
    """What the gate itself refused under one configuration; it would before every app, so that one
    reader is enough to ask it."""
    return collections.defaultdict(set)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_s_path_3_no_spelling_runs_the_protected_handler_under_a_weaker_rule(gate, readers, refused, reader):
    direct = Wire(readers[reader.name].port, "app.internal")
    assert direct.get(b"/admin/x")[1] == b"protected\n/admin/x"
    direct.close()
    reached = 0
    # A spelling in which `allow:` finds nothing is read as with `like:` alone.
    for word, policy, forms in configurations(reader)[:3]:
        gone = refused[json.dumps([policy, forms])]
        targets = [target for target in SPELLINGS[policy] if target not in gone]
        for target, status, body in answers(gate, f"{reader.name}-{word}", targets):
            if body.startswith(b"{"):
                gone.add(target)
            assert not body.startswith(b"protected") and 200 <= status < 500, (word, target, status, body[:200])
            reached += body.startswith(b"other")
        assert len(gone) > 200, "the gate was asked at all"
    assert reached > 500, "and what it let through arrived"


#: As browsers and programs send them; the last ones where the app takes them.
ORDINARY = """
/ /a%20b/c /a+b /%C3%A9t%C3%A9/%E6%97%A5%E6%9C%AC.txt /a@b:c,d!$&'()*=~-._ /100%25 /x|y^z[1] /a%22b%3Cc%3E%7B%7D%60 /wiki/C%2B%2B
/.well-known/x /files/.hidden /a.b/c.d.e /folder/ /UPPER/Case /draft%20/%20x /a%40b /a%3Ab /x/~user /%5Bx%5D /a...b /...
/s?q=a+b%20c%2Fd&e=%26&f=/../;x?y /s? /s?a=b?c /s?%zz=%&x=%u1234 /s?a[]=1&a[]=2 /s?x=%00%0a /s?//a /s?q=http://a/b
""".split()
FORMS = {"params": ["/a;v=1/b;w=2", "/x;jsessionid=A1.b!-2", "/x;"], "slashes": ["/a//b", "//a", "/a/b%2Fc", "/@s%2Fname", "/x//"]}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_s_path_1_what_ordinary_clients_ask_arrives_as_they_wrote_it(gate, readers, reader):
    app = readers[reader.name]
    direct = Wire(app.port, "app.internal")
    asked = {"none": ORDINARY, "allow": ORDINARY + FORMS["params"] + FORMS["slashes"]}
    if reader.like:
        asked["like"] = ORDINARY + FORMS["params"] * (reader.like == "tomcat")
    if reader.like == "php":
        # Names that Windows would shorten are refused before PHP.
        for word in ("like", "allow"):
            asked[word] = [path for path in asked[word] if path not in ("/draft%20/%20x", "/...")]
    different = []
    for word, targets in asked.items():
        for target, status, body in answers(gate, f"{reader.name}-open-{word}", [path.encode() for path in targets]):
            bare = direct.get(target)
            if (status, body) != bare:
                different.append((word, target, (status, body[:200]), bare))
    direct.close()
    assert not different


#: Fields by which some server or framework takes another path than the request line's.
FIELDS = """SCRIPT_NAME Script-Name X-Script-Name PATH_INFO Path-Info X-Path-Info X-Original-URL X-Rewrite-URL X-Original-URI
X-Forwarded-Prefix X-Forwarded-Path X-Forwarded-Uri X-Request-Uri Request-Uri REQUEST_URI X-Ingress-Path X-Accel-Redirect
X-Waws-Unencoded-Url""".split()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_s_path_3_no_field_makes_another_path_of_it(gate, reader):
    for field in FIELDS:
        for value in ("/static", "/admin/x", "/admin"):
            fields = f"{field}: {value}\r\n".encode()
            targets = [b"/static/admin/x", b"/static/x", b"/static/"]
            for target, status, body in answers(gate, f"{reader.name}-closed-allow", targets, fields):
                assert body.partition(b"\n")[0] != b"protected" and 200 <= status < 500, (field, value, target, status, body)
