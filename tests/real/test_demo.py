"""`stepgate demo`, as someone meets it who has just downloaded it."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pyotp
import pytest
from browser import LOOKS, Window, read_qr, sign_out, type_code, type_password
from gate import STEPGATE, Account
from playwright.sync_api import expect


class Demo:
    """One start of the demo, and what its welcome says."""

    def __init__(self, state: Path, listen: str = "127.0.0.1:0") -> None:
        self.output = state.parent / "output.txt"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [STEPGATE, "demo", "--listen", listen, "--state", str(state)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=state.parent,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while "Ctrl-C ends the demo" not in self.welcome():
            assert self.process.poll() is None and time.monotonic() < deadline, self.welcome()
            time.sleep(0.05)
        self.app = re.search(r"the app +(http://\S+?)/?\n", self.welcome()).group(1)
        self.portal = re.search(r"the portal +(http://\S+?)/?\n", self.welcome()).group(1)

    def welcome(self) -> str:
        return self.output.read_text(errors="replace")

    def person(self, name: str) -> Account:
        password = re.search(rf"^ +{name} +password (\S+)", self.welcome(), re.M).group(1)
        uri = re.search(rf"otpauth://totp/\S*{name}\S*", self.welcome())
        return Account(name, password, pyotp.parse_uri(uri.group()) if uri else None)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture(scope="module")
def demo(home):
    demo = Demo(home / "state")
    yield demo
    demo.stop()


@pytest.fixture
def window(chromium, demo):
    window = Window(chromium, LOOKS[0], demo)
    yield window
    window.close()


def test_the_five_things_to_try_work(demo, window):
    ann = demo.person("ann")
    page = window.tab()
    page.goto(demo.app)
    type_password(page, ann)
    type_code(page, ann)
    expect(page.locator("#greeting")).to_have_text("Hello, ann")
    window.look_at(page, "demo-home")
    page.goto(demo.app + "/reports")
    expect(page.locator("#reports")).to_be_visible()
    assert page.goto(demo.app + "/admin").status == 403
    window.look_at(page, "demo-denied")
    commands = re.findall(r"^ +\S*stepgate (--config .*)$", demo.welcome(), re.M)
    assert len(commands) == 2, demo.welcome()
    explained, audited = (
        subprocess.run([STEPGATE, *words.split()], capture_output=True, text=True, cwd=demo.output.parent, timeout=30)
        for words in commands
    )
    assert explained.returncode == 1 and "deny" in explained.stdout.lower(), explained
    assert audited.returncode == 0 and "ann" in audited.stdout, audited


def test_the_legacy_app_works_as_it_always_did(demo, window, tmp_path):
    # Lee has no authenticator yet: the first sign-in of a new account sets it up.
    lee = demo.person("lee")
    page = window.tab()
    page.goto(demo.app + "/staff")
    type_password(page, lee)
    lee.totp = pyotp.parse_uri(read_qr(page))
    page.locator("[name=code]").press_sequentially(lee.code())
    page.locator("form:has([name=code]) button:not([hidden])").last.click()
    page.locator("[name=saved]").check()
    page.locator("form:has([name=saved]) button").click()
    expect(page.locator("#staff")).to_be_visible()
    page.get_by_label("Name").fill("Bo & Co")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#staff")).to_contain_text("Bo & Co")

    file = tmp_path / "boats.bin"
    file.write_bytes(bytes(range(256)) * 4096)
    page.goto(demo.app + "/upload")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#received")).to_contain_text("1048576")

    page.goto(demo.app + "/chat")
    expect(page.locator("#state")).to_have_text("connected")
    page.get_by_label("Words").fill("ahoy")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#log")).to_have_text("ahoy\n")

    live = window.tab()
    live.goto(demo.app + "/live")
    expect(live.locator("#clock")).not_to_have_text("waiting")
    chat, page = page, window.tab()
    page.goto(demo.app)
    sign_out(page)
    expect(page.locator("h1")).to_contain_text("signed out")
    # Both were open; both are closed by the gate within a second.
    expect(live.locator("#state")).to_have_text("disconnected", timeout=3000)
    expect(chat.locator("#state")).to_have_text("disconnected", timeout=3000)


def test_a_second_start_finds_everything_again(home, chromium):
    state = home / "again" / "state"
    state.parent.mkdir()
    first = Demo(state)
    before = first.person("ann")
    assert first.stop() == 0
    second = Demo(state)
    after = second.person("ann")
    assert (after.password, after.totp.secret) == (before.password, before.totp.secret)
    window = Window(chromium, LOOKS[0], second)
    page = window.tab()
    page.goto(second.app)
    type_password(page, after)
    type_code(page, after)
    expect(page.locator("#greeting")).to_have_text("Hello, ann")
    window.close()
    assert second.stop() == 0
