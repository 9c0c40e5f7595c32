"""Every page in each of its states, also those that a story hardly reaches: looked at by axe-core,
on a phone and on a desk, in light and in dark, down to a screen of 320 pixels (WCAG 1.4.10)."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
from pathlib import Path

import pytest
from browser import AXE, AXE_RUN
from gate import TARGET

LANGUAGES = ("en", "fr")
SIZES = {"phone": (320, 700), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The names of the pages, and for each language where they are."""
    origins, servers = {}, []
    for language in LANGUAGES:
        folder = tmp_path_factory.mktemp(language)
        command = [TARGET / "debug/examples/pages", folder, language]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origins[language] = f"http://127.0.0.1:{server.server_address[1]}"
        servers.append(server)
    names = sorted(path.stem for path in folder.glob("*.html") if path.stem != "index")
    yield origins, names
    for server in servers:
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


# French is the longer one: where it fits a phone, a desk is no question.
@pytest.mark.parametrize(("size", "language"), [("phone", "en"), ("desktop", "en"), ("phone", "fr")])
def test_no_page_in_any_state_stops_a_screen_reader_or_leaves_the_screen(chromium, drawn, size, language):
    origins, names = drawn
    origin = origins[language]
    assert len(names) > 80, names
    width, height = SIZES[size]
    context = chromium.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page = context.new_page()
    coming = set()

    def stay(route):
        """Some pages go on by themselves, or look again when a pause is over; here they stay."""
        url = route.request.url
        if "/static/send" in url:
            return route.abort()
        if route.request.is_navigation_request() and url not in coming:
            return route.abort("aborted")
        coming.discard(url)
        route.continue_()

    page.route("**/*", stay)
    folder = os.environ.get("STEPGATE_SCREENSHOTS")
    faults = []
    for name in names:
        coming.add(f"{origin}/{name}.html")
        page.goto(f"{origin}/{name}.html")
        page.evaluate(AXE)
        if page.locator("h1").count() != 1:
            faults.append(f"{name}: not one heading")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            faults += [f"{name}, {scheme}: {fault}" for fault in page.evaluate(AXE_RUN)]
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wide > 0:
                faults.append(f"{name}, {scheme}: {wide} px wider than the screen")
            if folder:
                path = Path(folder) / f"states-{size}-{language}" / f"{name}-{scheme}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=path, full_page=True)
    context.close()
    assert not faults, "\n".join(faults)
