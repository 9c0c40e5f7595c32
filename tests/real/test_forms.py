"""Nobody reaches what a rule about a field closes by writing the field so that the gate and the app behind it read
different things (S-PATH-8)."""

from __future__ import annotations

import gzip
import http.client
from concurrent.futures import ThreadPoolExecutor

import pytest
from apps.form_readers import FORM_READERS

EVERYBODY = {"allow": ["anyone"], "require": "none"}
FORM, JSON, PARTS = "application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=x"
POLICIES = {
    "form": EVERYBODY | {"rules": [{"match": {"path": "/", "form": {"action": "delete"}}, "deny": "Not that."}]},
    "json": EVERYBODY | {"rules": [{"match": {"path": "/", "json": {"action": "delete"}}, "deny": "Not that."}]},
    # Nobody may come, but to look.
    "form-view": {"allow": ["group:nobody"], "rules": [{"match": {"path": "/", "form": {"action": "view"}}, **EVERYBODY}]},
    "json-view": {"allow": ["group:nobody"], "rules": [{"match": {"path": "/", "json": {"action": "view"}}, **EVERYBODY}]},
}
NAMES = b"action Action ACTION +action %20action action[] action[0] action[x] action%5b%5d action[ .action action%00 action%00x".split()
NAMES += [b"a%63tion", b"%61ction", b"action%20", b"action.", b"\xef\xbb\xbfaction", b"action%0a", b"_action", b"action[][]", b"x[action]"]
VALUES = b"delete DELETE +delete delete%20 del%65te %0adelete delete%00 delete%00x del%00ete de%fflete %u0064elete d%zzelete".split()
VALUES += [b"%ef%bb%bfdelete", b"delete%0d%0a", b"%ff%fed%00e%00l%00e%00t%00e%00", b"delete;x", b"0", b"true", b"", b"view"]


def forms() -> list[bytes]:
    plain = [name + b"=" + value for name in NAMES for value in VALUES]
    pairs = [b"action=view", b"action=delete", b"Action=delete", b"action[]=delete", b"x=1"]
    joined = [joint.join([a, b]) for joint in (b"&", b";", b"&;", b"&&", b"%26", b"\n", b",") for a in pairs for b in pairs]
    return plain + joined + [b"_charset_=utf-16&action=view", b"x=&" * 1100 + b"action=delete", b"x=" + b"y" * 70000 + b"&action=delete"]


def documents() -> list[bytes]:
    text = [
        '{"action": %s}' % value
        for value in ('"delete"', '"Delete"', '" delete"', '"del\\u0065te"', '"delete\\u0000"', "true", "0", "1", "null", '["delete"]', '{"x":"delete"}', '"view"')
    ]
    text += ['{"%s": "delete"}' % name for name in ("Action", "ACTION", " action", "action ", "\\u0061ction", "action\\u0000", "a.action")]
    text += ['{"action":"view","action":"delete"}', '{"action":"delete","action":"view"}', '{"action":"view","Action":"delete"}']
    text += ['[{"action":"delete"}]', '"delete"', '{"action":"view"}{"action":"delete"}', '{"action":"delete"} x', '\ufeff{"action":"delete"}']
    text += ["{'action':'delete'}", '{"action":"delete",}', '/**/{"action":"delete"}', '{"action":"delete","x":NaN}', "{action:\"delete\"}"]
    return [one.encode() for one in text] + [one.encode(code) for one in text[:2] for code in ("utf-16", "utf-16-le", "utf-32")]


def parts() -> list[bytes]:
    heads = ['name="action"', "name=action", "name='action'", 'name="x"; name="action"', 'name="action"; filename="a"', 'NAME="action"', 'name*=utf-8\'\'action', 'name="ac\\tion"']
    return [f"--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n--x--\r\n".encode() for head in heads for value in ("delete", "view")]


TYPES = [FORM, JSON, PARTS, None, "", "text/plain", "text/json", FORM.title(), FORM + "; charset=utf-8", FORM + "; charset=utf-16",
         FORM + "; charset=ibm037", FORM + "; charset=utf-7", FORM + ";x=/json", f"{FORM}, {JSON}", f"{JSON}, {FORM}", "application/x+json",
         JSON + "; charset=utf-16", JSON + ";", "multipart/form-data", "application/octet-stream"]  # fmt: skip
QUERIES = ["", "?action=delete", "?action=view", "?Action=delete", "?action[]=delete", "?x=1;action=delete", "?action=%u0064elete", "?_method=PUT"]


def requests() -> list[tuple[str, list[tuple[str, str]], bytes]]:
    some_forms = [b"action=delete", b"action=view", b"action=view&action=delete", b"Action=delete", b"x=1", b""]
    some = some_forms + [b'{"action":"delete"}', b'{"action":"view"}', *parts()[:2], "action=delete".encode("utf-16"), "action=delete".encode("cp037")]
    of = lambda kind: [("Content-Type", kind)] if kind is not None else []  # noqa: E731
    out = [("", of(FORM), body) for body in forms()] + [("", of(JSON), body) for body in documents()] + [("", of(PARTS), body) for body in parts()]
    out += [(query, of(kind), body) for query in QUERIES for kind in TYPES for body in some]
    out += [("", [("Content-Type", FORM), ("Content-Type", kind)], body) for kind in (FORM, JSON, PARTS) for body in some]
    for kind, body in ((FORM, b"action=delete"), (JSON, b'{"action":"delete"}')):
        out += [("", [("Content-Type", kind), ("Content-Encoding", "gzip")], gzip.compress(body)), ("", [("Content-Type", kind), ("Content-Encoding", "identity")], body)]
    return out


@pytest.fixture(scope="module")
def readers(home):
    with ThreadPoolExecutor() as pool:
        running = list(pool.map(lambda reader: reader(home / f"form-{reader.name}"), FORM_READERS))
    yield {app.name: app for app in running}
    for app in running:
        app.stop()


@pytest.fixture(scope="module")
def gate(gate_for, readers):
    apps = [
        {"app": f"{app.name}-{word}", "hosts": [f"{app.name}-{word}"], "upstream": {"urls": [app.url]}, **policy}
        for app in readers.values()
        for word, policy in POLICIES.items()
    ]
    return gate_for(apps, clear=True)


class Client:
    """Sends what it is told to, on one connection for as long as that lasts."""

    def __init__(self, port: int, host: str) -> None:
        self.port, self.host, self.wire = port, host, None

    def post(self, target: str, fields: list[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        for again in (False, True):
            try:
                self.wire = self.wire or http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                self.wire.putrequest("POST", "/" + target, skip_host=True, skip_accept_encoding=True)
                for name, value in [("Host", self.host), ("Content-Length", str(len(body))), *fields]:
                    self.wire.putheader(name, value)
                self.wire.endheaders(body)
                answer = self.wire.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                # The gate ends a connection whose body it has not read.
                self.wire.close()
                self.wire = None
                if again:
                    raise
        raise AssertionError


@pytest.mark.parametrize("reader", FORM_READERS, ids=lambda reader: reader.name)
def test_s_path_8_no_spelling_of_a_field_passes_the_rule_about_it(gate, readers, reader):
    passed = reached = 0
    direct = Client(readers[reader.name].port, "app.internal")
    assert direct.post("", [("Content-Type", FORM)], b"action=delete")[1] == b"delete"
    assert direct.post("", [("Content-Type", JSON)], b'{"action":"delete"}')[1] == b"delete"
    for word in POLICIES:
        client = Client(gate.port, gate.host(f"{reader.name}-{word}"))
        for target, fields, body in requests():
            status, said = client.post(target, fields, body)
            what = (word, target, fields, body[:80], status, said[:200])
            assert status < 500, what
            if word.endswith("view"):
                assert status >= 400 or said == b"view", what
                passed += said == b"view"
            else:
                assert said != b"delete", what
                reached += said in (b"view", b"other")
    assert passed >= 4 and reached > 20, "the gate lets ordinary requests through"
