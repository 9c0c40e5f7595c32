"""People at a real browser: large and small, light and dark, with scripts and without."""

from __future__ import annotations

import itertools
import re
import subprocess

import pyotp
import pytest
from apps.old_app import OldApp
from browser import Window, read_qr, sign_out, type_code, type_password, with_scripts
from gate import Account
from playwright.sync_api import expect

_numbers = itertools.count(1)
XHR = """new Promise((done) => { const asked = new XMLHttpRequest(); asked.open('GET', '/');
  asked.onloadend = () => done(asked.status); asked.send(); })"""


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = OldApp(home / "app")
    yield gate_for(
        [
            {
                "app": "old",
                "hosts": ["old"],
                "upstream": {"urls": [app.url]},
                **app.gate,
                "allow": ["group:staff"],
                "rules": [
                    {"name": "front", "match": {"path": "/public"}, "allow": ["anyone"], "require": "none"},
                    {"name": "reports", "match": {"path": "/reports/**"}, "require": "soon"},
                    {"name": "plain", "match": {"path": "/notes/**"}, "require": "password"},
                    {"name": "admin", "match": {"path": "/admin/**"}, "deny": "The old admin page is closed. Use the new one."},
                ],
            }
        ],
        {"levels": {"soon": {"factors": 2, "max_age": "3s"}}},
    )
    app.stop()


@pytest.fixture
def ann(gate) -> Account:
    return gate.add(f"ann{next(_numbers)}", display="Ann Archer")


@pytest.fixture
def bob(gate) -> Account:
    return gate.add(f"bob{next(_numbers)}", display="Bob Baker")


def signed_in(window: Window, account: Account, path: str = "/"):
    page = window.tab()
    page.goto(window.gate.url("old", path))
    type_password(page, account)
    type_code(page, account)
    expect(page.locator("#greeting")).to_have_text(f"Hello, {account.name}")
    return page


def test_a_new_person_follows_the_link_and_sets_everything_up(window, gate):
    name = f"new{next(_numbers)}"
    told = gate.run("user", "add", name, "--display", "New Person", "--group", "staff", "--link")
    link = re.search(r"https://\S+", told).group()
    page = window.tab()
    page.goto(link)
    window.look_at(page, "sign-up")
    page.get_by_role("button", name="Start").click()

    account = Account(name, "four calm boats at noon")
    window.look_at(page, "set-password")
    page.locator("[name=password]").fill(account.password)
    page.get_by_role("button", name="Set password").click()

    expect(page.locator("h1")).to_contain_text("authenticator")
    window.look_at(page, "enroll-totp")
    uri = read_qr(page)
    assert page.locator("a[href^='otpauth:']").get_attribute("href") == uri, "the link and the picture say the same"
    account.totp = pyotp.parse_uri(uri)
    assert name in account.totp.name and account.totp.issuer == "Example Corp"
    page.locator("summary").first.click()
    assert re.sub(r"\s", "", page.locator("#key").text_content()) == account.totp.secret
    window.look_at(page, "enroll-totp-key")
    # The code of a program that is neither ours nor the library the other stories use.
    code = subprocess.check_output(["oathtool", "--totp", "--base32", account.totp.secret], text=True).strip()
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    page.locator("[name=code]").press_sequentially(wrong)
    page.locator("form:has([name=code]) button:not([hidden])").last.click()
    expect(page.get_by_role("alert")).to_be_visible()
    window.look_at(page, "enroll-totp-wrong")
    assert read_qr(page) == uri, "the same key: the phone has it already"
    page.locator("[name=code]").press_sequentially(account.totp.now())
    page.locator("form:has([name=code]) button:not([hidden])").last.click()

    expect(page.locator("h1")).to_contain_text("backup codes")
    codes = page.locator("#codes li").all_text_contents()
    assert len(set(codes)) == 10, codes
    window.look_at(page, "backup-codes")
    page.locator("[name=saved]").check()
    page.locator("form:has([name=saved]) button").click()
    window.look_at(page, "after-enrollment")

    # Everything in hand, the person goes to the app; a backup code serves when the phone is away.
    other = Window(window.browser, window.look, gate)
    page = other.tab()
    page.goto(gate.url("old"))
    type_password(page, account)
    page.get_by_role("link", name=re.compile("another way")).click()
    other.look_at(page, "choose")
    page.get_by_role("button", name=re.compile("Backup code")).click()
    other.look_at(page, "backup-code")
    page.locator("[name=code]").fill(codes[0])
    page.locator("form:has([name=code]) button:not([hidden])").first.click()
    expect(page.locator("#greeting")).to_have_text(f"Hello, {name}")
    other.close()


def test_ann_signs_in_and_out(window, gate, ann):
    page = window.tab()
    page.goto(gate.url("old", "/ledger?year=2026"))
    window.look_at(page, "sign-in")
    page.locator("[name=username]").fill(ann.name)
    page.locator("[name=password]").fill("not her password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Name and password do not match")
    expect(page).to_have_title(re.compile("^Error: "))
    window.look_at(page, "sign-in-wrong")
    type_password(page, ann)
    window.look_at(page, "code")
    page.locator("[name=code]").fill("000000" if ann.totp.now() != "000000" else "000001")
    if not window.look.scripts:
        page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("This code is not right")
    window.look_at(page, "code-wrong")
    type_code(page, ann)
    expect(page.locator("#greeting")).to_have_text(f"Hello, {ann.name}")
    expect(page.locator("#where")).to_have_text("/ledger?year=2026")
    assert page.url == gate.url("old", "/ledger?year=2026")

    page.goto(gate.url("login"))
    window.look_at(page, "account")
    page.goto(gate.url("old"))
    sign_out(page)
    expect(page.locator("h1")).to_contain_text("signed out")
    window.look_at(page, "signed-out")


def test_a_sign_out_in_one_tab_is_seen_in_the_other(window, gate, ann):
    first = signed_in(window, ann)
    second = window.tab()
    second.goto(gate.url("old", "/live"))
    if window.look.scripts:
        expect(second.locator("#state")).to_have_text("live")
    sign_out(first)
    expect(first.locator("h1")).to_contain_text("signed out")
    if window.look.scripts:
        expect(second.locator("#state")).to_have_text("ended", timeout=3000)
    second.reload()
    expect(second.locator("[name=password]")).to_be_visible()


def test_the_back_button_after_sign_out_opens_no_door(window, gate, ann):
    page = signed_in(window, ann)
    page.goto(gate.url("login", "/.stepgate/account"))
    expect(page.locator("h1")).to_contain_text("account")
    page.goto(gate.url("old"))
    sign_out(page)
    expect(page.locator("h1")).to_contain_text("signed out")
    for _ in range(4):
        page.go_back()
        expect(page.locator("body")).not_to_contain_text("Where you are signed in")
    # What the app let the browser keep may be shown again; nothing new comes through.
    page.goto(gate.url("old", "/fresh"))
    expect(page.locator("[name=password]")).to_be_visible()


def test_a_deep_link_keeps_its_fragment(window, gate, ann):
    page = window.tab()
    page.goto(gate.url("old", "/long#far"))
    type_password(page, ann)
    type_code(page, ann)
    expect(page.locator("#greeting")).to_be_visible()
    if window.look.scripts:
        assert page.url == gate.url("old", "/long#far")
        expect(page.locator("#far")).to_be_in_viewport()
    else:
        assert page.url.split("#")[0] == gate.url("old", "/long"), "without scripts the page opens at its top"


def test_a_page_that_needs_a_fresh_proof_asks_for_it_alone(window, gate, ann):
    page = window.tab()
    page.goto(gate.url("old", "/notes/1"))
    type_password(page, ann)
    expect(page.locator("#greeting")).to_be_visible()
    page.goto(gate.url("old", "/reports/salaries?dept=3"))
    expect(page.locator("[name=code]")).to_be_visible()
    expect(page.locator("[name=password]")).to_have_count(0)
    window.look_at(page, "step-up")
    type_code(page, ann)
    expect(page.locator("#where")).to_have_text("/reports/salaries?dept=3")


def test_a_refusal_explains_itself(window, gate, ann):
    page = signed_in(window, ann)
    answer = page.goto(gate.url("old", "/admin/"))
    assert answer.status == 403
    expect(page.locator("main")).to_contain_text("The old admin page is closed. Use the new one.")
    window.look_at(page, "denied")
    answer = page.goto(gate.url("old", "/a%2fb"))
    assert answer.status == 400
    window.look_at(page, "unreadable")


def test_two_tabs_wait_and_both_get_in(window, gate, ann):
    """One browser, two sign-in pages open: the second is not a trap."""
    first, second = window.tab(), window.tab()
    first.goto(gate.url("old", "/one"))
    second.goto(gate.url("old", "/two"))
    if window.look.scripts:
        # The waiting tab hears that a proof was sent, and asks anew: first too early, then in time.
        with second.expect_event("load"):
            type_password(first, ann)
    else:
        type_password(first, ann)
    type_code(first, ann)
    expect(first.locator("#where")).to_have_text("/one")
    if not window.look.scripts:
        second.reload()
    expect(second.locator("#where")).to_have_text("/two", timeout=10_000)


@with_scripts
def test_a_script_for_apps_warns_in_time_and_loses_nothing_that_was_typed(window, gate, ann):
    page = signed_in(window, ann, "/typing")
    bar = page.get_by_role("alert")
    expect(bar).to_contain_text("You will be signed out at")
    window.look_at(page, "keepalive-warning")
    bar.get_by_role("button", name="Stay signed in").click()
    expect(bar).to_have_count(0)
    page.locator("#note").fill("three hours of work")
    gate.run("session", "end", "--user", ann.name)
    while page.evaluate(XHR) != 401:
        pass  # Within a second (S-SESS-3).
    page.locator("#save").click()
    expect(bar).to_contain_text("What you typed here is still here.")
    with window.context.expect_page() as opened:
        bar.get_by_role("button", name="Sign in in another tab").click()
    other = opened.value
    type_password(other, ann)
    type_code(other, ann)
    page.bring_to_front()
    expect(page.locator("#saved")).to_have_text(f"three hours of work, by {ann.name}", timeout=15_000)
    expect(bar).to_have_count(0)


@with_scripts
def test_what_one_person_typed_is_not_sent_for_the_next_one(window, gate, ann, bob):
    page = signed_in(window, ann, "/typing")
    bar = page.get_by_role("alert")
    page.locator("#note").fill("a letter of Ann's")
    gate.run("session", "end", "--user", ann.name)
    while page.evaluate(XHR) != 401:
        pass  # Within a second (S-SESS-3).
    page.locator("#save").click()
    expect(bar).to_contain_text("What you typed here is still here.")
    other = window.tab()
    other.goto(gate.url("old", "/typing"))
    type_password(other, bob)
    type_code(other, bob)
    expect(other.locator("#greeting")).to_have_text(f"Hello, {bob.name}")
    page.bring_to_front()
    expect(bar).to_contain_text("Somebody else is signed in now.", timeout=15_000)
    window.look_at(page, "keepalive-other")
    expect(page.locator("#saved")).to_contain_text("login_url", timeout=15_000)
    # Nor is it sent by a second press.
    page.locator("#save").click()
    expect(page.locator("#saved")).to_have_text("")


def test_a_form_with_a_file_survives_the_check_in_the_middle_and_arrives_once(window, gate, ann):
    page = window.tab()
    # For a note the password is enough; to save it a code is asked for.
    page.goto(gate.url("old", "/notes/new"))
    type_password(page, ann)
    page.locator("[name=note]").fill("Typed for ten minutes, with an é.")
    page.locator("[name=file]").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"in the file"})
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your form was kept.")).to_be_visible()
    window.look_at(page, "step-up-kept")
    page.get_by_role("button", name="Keep it 5 minutes longer").click()
    expect(page.get_by_text("Your form was kept.")).to_be_visible()
    type_code(page, ann)
    if not window.look.scripts:
        window.look_at(page, "send-form")
        page.get_by_role("button", name="Send it to").click()
    expect(page).to_have_url(gate.url("old", "/saved?list=7"))
    text = page.locator("body").inner_text()
    for part in ("Typed for ten minutes, with an é.", "in the file", f"by {ann.name}", f"from {gate.url('old', '')}"):
        assert part in text, text
    page.reload()
    expect(page.get_by_text("It is not sent twice.")).to_be_visible()
    window.look_at(page, "form-sent")
