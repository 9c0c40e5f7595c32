"""A code generator that counts (RFC 4226), its codes made by oathtool."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from gate import Account, Gate
from person import Page, Person

SEED = "3132333435363738393031323334353637383930"


@pytest.fixture
def gate(tmp_path: Path):
    app = {"app": "wiki", "hosts": ["wiki"], "upstream": {"urls": ["http://127.0.0.1:9"]}, "require": "mfa"}
    gate = Gate(tmp_path, [app | {"rules": [{"match": {"path": "/"}, "respond": 204}]}]).start()
    yield gate
    gate.stop()


def oathtool(counter: int, *words: str, seed: str = SEED) -> str:
    return subprocess.check_output(["oathtool", "--hotp", "-c", str(counter), *words, seed], text=True).strip()


def ann(gate: Gate) -> Account:
    account = Account("ann", "ann walks to the harbour at nine")
    gate.run("user", "add", "ann", "--password-stdin", "--group", "staff", given=account.password)
    return account


def types(gate: Gate, account: Account, **codes: str) -> Page:
    """Signs in with the password and these codes, in a browser that was never here."""
    person = Person(gate, account)
    page = person.visit(gate.url("wiki"))
    page = person.submit(page, page.form_with("password"), username=account.name, password=account.password)
    form = next(form for form in page.forms if set(codes) <= set(form.fields))
    page = person.submit(page, form, **codes)
    person.close()
    return page


def test_codes_of_another_program_sign_in_each_once_and_in_order(gate: Gate) -> None:
    account = ann(gate)
    gate.run("factor", "add", "ann", "hotp", "--secret-stdin", "--label", "Fob", given=SEED)
    assert types(gate, account, code=oathtool(0)).status == 204
    assert types(gate, account, code=oathtool(0)).status == 422
    assert types(gate, account, code=oathtool(6)).status == 204, "five presses on"
    assert types(gate, account, code=oathtool(13)).status == 422, "six"
    assert types(gate, account, code=oathtool(13), second=oathtool(15)).status == 422
    assert types(gate, account, code=oathtool(56), second=oathtool(57)).status == 422, "beyond fifty"
    assert types(gate, account, code=oathtool(55), second=oathtool(56)).status == 204
    assert types(gate, account, code=oathtool(57)).status == 204
    trail = gate.run("audit", "tail", "--action", "factor_verify", "--json")
    rows = [json.loads(line) for line in trail.splitlines()]
    assert sum("brought back into step" in json.dumps(row) for row in rows) == 1


def test_a_generator_of_eight_digits_is_taken_over_by_its_address(gate: Gate) -> None:
    account = ann(gate)
    base32 = subprocess.check_output(["oathtool", "-v", "--hotp", SEED], text=True)
    base32 = next(line.split(": ")[1] for line in base32.splitlines() if line.startswith("Base32"))
    address = f"otpauth://hotp/Vendor:4711?secret={base32}&counter=41&digits=8\n"
    gate.run("factor", "add", "ann", "hotp", "--secret-stdin", given=address)
    assert types(gate, account, code=oathtool(40, "-d", "8")).status == 422, "the address says that it was used"
    assert types(gate, account, code=oathtool(41, "-d", "8")).status == 204


def test_a_generator_that_the_gate_made_gives_what_oathtool_makes_of_its_address(gate: Gate) -> None:
    account = ann(gate)
    told = json.loads(gate.run("factor", "add", "ann", "hotp", "--json"))
    url = urlsplit(told["uri"])
    query = parse_qs(url.query)
    assert (url.scheme, url.netloc, query["counter"], query["issuer"]) == ("otpauth", "hotp", ["0"], ["Example Corp"])
    code = oathtool(2, "-b", seed=query["secret"][0])
    assert types(gate, account, code=code).status == 204
