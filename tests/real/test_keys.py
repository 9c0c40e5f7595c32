"""Security keys and passkeys in a real browser, with the authenticator that its DevTools bring."""

from __future__ import annotations

import itertools

import pytest
from apps.old_app import OldApp
from browser import LOOKS, Window, sign_out, type_password, with_scripts, without_scripts
from gate import Account
from playwright.sync_api import Page, expect

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = OldApp(home / "app")
    # In clear on loopback: Chromium has no WebAuthn on pages whose certificate it does not trust.
    yield gate_for(
        [{"app": "old", "hosts": ["old"], "upstream": {"urls": [app.url]}, **app.gate,
          "rules": [{"name": "reports", "match": {"path": "/reports/**"}, "require": "strong"}]}],
        clear=True,
    )
    app.stop()


@pytest.fixture
def ann(gate) -> Account:
    """A password, and nothing set up yet."""
    account = Account(f"ann{next(_numbers)}", "she walks to the harbour at nine")
    gate.run("user", "add", account.name, "--password-stdin", "--display", "Ann Archer", given=account.password)
    return account


class Key:
    """An authenticator in this tab's browser."""

    def __init__(self, page: Page, verifies: bool = True, resident: bool = True) -> None:
        self.cdp = page.context.new_cdp_session(page)
        self.cdp.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2", "transport": "internal" if resident else "usb", "hasResidentKey": resident,
            "hasUserVerification": verifies, "isUserVerified": verifies, "automaticPresenceSimulation": True,
        }
        self.id = self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]

    def waits(self) -> None:
        """Nobody touches it. Else this one answers a question by itself that stands in the name field's list."""
        self.cdp.send("WebAuthn.setAutomaticPresenceSimulation", {"authenticatorId": self.id, "enabled": False})

    def touched(self) -> None:
        self.cdp.send("WebAuthn.setAutomaticPresenceSimulation", {"authenticatorId": self.id, "enabled": True})

    def credentials(self) -> list[dict]:
        return self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"]

    def forget(self) -> None:
        self.cdp.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.id})


def leave(tab: Page, gate) -> None:
    tab.goto(gate.url("old", "/reports/1"))
    sign_out(tab)


def enroll(window: Window, tab: Page, ann: Account) -> None:
    """The first sign-in of an account, with a key in place of an app."""
    type_password(tab, ann)
    expect(tab.get_by_role("heading", name="Set up your authenticator app")).to_be_visible()
    tab.get_by_role("link", name="Use a passkey or security key instead").click()
    expect(tab.get_by_role("heading", name="Set up a passkey or security key")).to_be_visible()
    window.look_at(tab, "enroll-key")


@with_scripts
def test_a_key_is_set_up_and_signs_in_with_and_without_a_name(gate, window, ann):
    tab = window.tab()
    key = Key(tab)
    tab.goto(gate.url("old", "/reports/1"))
    enroll(window, tab, ann)
    tab.get_by_label("Name of this key").fill("Blue key")
    tab.get_by_role("button", name="Set it up").click()
    expect(tab.get_by_role("heading", name="Save your backup codes")).to_be_visible()
    assert len(key.credentials()) == 1 and key.credentials()[0]["isResidentCredential"]
    tab.get_by_label("I saved these codes").check()
    tab.get_by_role("button", name="Continue").click()
    expect(tab).to_have_url(gate.url("old", "/reports/1"))
    tab.goto(gate.url("login", "/.stepgate/account"))
    window.look_at(tab, "account-with-key")
    expect(tab.get_by_text("Blue key").first).to_be_visible()

    # Behind the password.
    leave(tab, gate)
    key.waits()
    tab.goto(gate.url("old", "/reports/1"))
    window.look_at(tab, "sign-in-with-passkey")
    type_password(tab, ann)
    key.touched()
    expect(tab.get_by_role("heading", name="Use your passkey or security key")).to_be_visible()
    window.look_at(tab, "key")
    tab.get_by_role("button", name="Continue").click()
    expect(tab).to_have_url(gate.url("old", "/reports/1"))

    # Without a name: one press.
    leave(tab, gate)
    key.waits()
    tab.goto(gate.url("old", "/reports/1"))
    expect(tab.get_by_role("button", name="Sign in with a passkey")).to_be_visible()
    key.touched()
    tab.get_by_role("button", name="Sign in with a passkey").click()
    expect(tab).to_have_url(gate.url("old", "/reports/1"))

    # Or none: the browser offers it in the list of the name field.
    leave(tab, gate)
    tab.goto(gate.url("old", "/reports/1"))
    expect(tab).to_have_url(gate.url("old", "/reports/1"))

    # A key that nobody has set up here.
    leave(tab, gate)
    key.forget()
    stranger = Key(tab)
    tab.goto(gate.url("login", "/.stepgate/login"))
    tab.get_by_role("button", name="Sign in with a passkey").click()
    expect(tab.get_by_text("Nothing was confirmed")).to_be_visible()
    assert stranger.credentials() == []


def test_a_touch_is_enough_behind_the_password_and_not_without_it(gate, chromium, ann):
    window = Window(chromium, LOOKS[0], gate)
    tab = window.tab()
    Key(tab, verifies=False, resident=False)
    tab.goto(gate.url("old", "/reports/1"))
    enroll(window, tab, ann)
    tab.get_by_role("button", name="Set it up").click()
    tab.get_by_label("I saved these codes").check()
    tab.get_by_role("button", name="Continue").click()
    expect(tab).to_have_url(gate.url("old", "/reports/1"))
    leave(tab, gate)
    tab.goto(gate.url("old", "/reports/1"))
    tab.get_by_role("button", name="Sign in with a passkey").click()
    expect(tab.get_by_text("Nothing was confirmed")).to_be_visible()
    type_password(tab, ann)
    tab.get_by_role("button", name="Continue").click()
    expect(tab).to_have_url(gate.url("old", "/reports/1"))
    window.close()


@without_scripts
def test_without_scripts_the_page_says_what_is_needed(gate, window, ann):
    tab = window.tab()
    tab.goto(gate.url("old", "/"))
    expect(tab.get_by_role("button", name="Sign in with a passkey")).to_have_count(0)
    enroll(window, tab, ann)
    expect(tab.locator("noscript .note")).to_be_visible()
    expect(tab.locator("noscript .note")).to_contain_text("Passkeys need JavaScript")
    tab.get_by_role("link", name="Use an authenticator app instead").click()
    expect(tab.get_by_role("heading", name="Set up your authenticator app")).to_be_visible()
