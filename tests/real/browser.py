"""A real browser in the hands of a person, who looks at every page on the way: nothing that a
screen reader trips over, nothing wider than the screen, nothing in the browser's console."""

from __future__ import annotations

import io
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import zxingcpp
from apps import CACHE
from gate import Account, Gate
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

AXE = (CACHE / "node/node_modules/axe-core/axe.min.js").read_text()
AXE_RUN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .map(v => v.id + ': ' + v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary).join(' | '))"""
_pictures = itertools.count(1)


@dataclass(frozen=True)
class Look:
    """How a person's browser is: its size, and whether it runs scripts."""

    name: str
    size: tuple[int, int]
    scripts: bool
    phone: bool = False


LOOKS = [
    Look("desktop", (1280, 900), True),
    Look("phone", (390, 844), True, phone=True),
    Look("desktop-no-script", (1280, 900), False),
    Look("phone-no-script", (390, 844), False, phone=True),
]
# For stories of browsers of one kind alone: a skip would be a story that is not told.
with_scripts = pytest.mark.parametrize("look", [look for look in LOOKS if look.scripts], ids=lambda look: look.name)
without_scripts = pytest.mark.parametrize(
    "look", [look for look in LOOKS if not look.scripts], ids=lambda look: look.name
)


class Window:
    """One browser profile: its tabs share cookies."""

    def __init__(self, browser: Browser, look: Look, gate: Gate) -> None:
        self.look, self.gate, self.browser = look, gate, browser
        self.context = self._context(look.scripts)
        self.complaints: list[str] = []
        self.inspector: BrowserContext | None = None

    def _context(self, scripts: bool) -> BrowserContext:
        width, height = self.look.size
        return self.browser.new_context(
            ignore_https_errors=True,
            java_script_enabled=scripts,
            viewport={"width": width, "height": height},
            is_mobile=self.look.phone,
            has_touch=self.look.phone,
            reduced_motion="reduce",
            locale="en-GB",
        )

    def tab(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        return page

    def _hear(self, message) -> None:
        # A status of 4xx is an answer, not a fault of a page; a refused script or style is one.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.location.get('url')}: {message.text}")

    def look_at(self, page: Page, name: str) -> None:
        """What a person with a screen reader, a phone or tired eyes would meet here."""
        expect(page.locator("h1")).to_have_count(1)
        folder = os.environ.get("STEPGATE_SCREENSHOTS")
        number = next(_pictures)
        faults = []
        judged = page if self.look.scripts else self._copy(page)
        judged.evaluate(AXE)
        for scheme in ("light", "dark"):
            for tab in {page, judged}:
                tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if folder:
                path = Path(folder) / self.look.name / f"{number:03}-{name}-{scheme}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=path, full_page=True)
            faults += [f"{scheme}: {fault}" for fault in judged.evaluate(AXE_RUN)]
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                faults.append(f"{scheme}: {wide} px wider than the screen")
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        if judged is not page:
            judged.close()
        assert not faults, f"{name} ({page.url}):\n" + "\n".join(faults)
        assert not self.complaints, f"{name}: the console says:\n" + "\n".join(self.complaints)

    def _copy(self, page: Page) -> Page:
        """axe needs timers, which stand still where scripts are off: a second profile, with scripts
        for axe alone, is given the same page and its stylesheet."""
        if self.inspector is None:
            self.inspector = self._context(True)
        copy = self.inspector.new_page()
        content, address = page.content(), page.url.split("#")[0]
        copy.route("**/*.js", lambda route: route.abort())
        copy.route(address, lambda route: route.fulfill(body=content, content_type="text/html; charset=utf-8"))
        copy.goto(address)
        return copy

    def close(self) -> None:
        # Shown by pytest only beside a story that failed.
        for page in self.context.pages:
            print(f"--- {self.look.name}: {page.url}\n{page.locator('body').inner_text()}\n")
        for complaint in self.complaints:
            print("console:", complaint)
        self.context.close()
        if self.inspector:
            self.inspector.close()


def read_qr(page: Page) -> str:
    """Holds a phone before the screen: a decoder that is not ours reads the picture."""
    picture = Image.open(io.BytesIO(page.locator("figure[role=img]").screenshot()))
    found = zxingcpp.read_barcodes(picture.resize((picture.width * 3, picture.height * 3)))
    assert len(found) == 1, f"{len(found)} codes in the picture"
    return found[0].text


def type_password(page: Page, account: Account) -> None:
    page.locator("[name=username]").fill(account.name)
    page.locator("[name=password]").fill(account.password)
    page.get_by_role("button", name="Sign in", exact=True).click()


def type_code(page: Page, account: Account) -> None:
    page.locator("[name=code]").press_sequentially(account.code())
    page.locator("form:has([name=code]) button:not([hidden])").first.click()


def sign_out(page: Page) -> None:
    """Where the app's own "Log out" leads; the gate may ask first."""
    page.get_by_role("link", name="Log out").click()
    page.get_by_role("button", name=re.compile("Sign out")).first.click()
