"""What every story starts with: loopback names, the built gate, people."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import LOOKS, Look, Window
from gate import STEPGATE, Account, Gate
from person import Person
from playwright.sync_api import Browser, sync_playwright

_resolve = socket.getaddrinfo


def _loopback(host, *rest, **named):
    """`*.localhost` is loopback by RFC 6761; browsers know it, glibc does not."""
    name = host.decode() if isinstance(host, bytes) else host
    return _resolve("127.0.0.1" if name and name.endswith(".localhost") else host, *rest, **named)


socket.getaddrinfo = _loopback


def pytest_sessionstart(session: pytest.Session) -> None:
    if not STEPGATE.exists():
        pytest.exit(f"{STEPGATE} is missing: `make build` first", returncode=1)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped story is a story not told: it fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = 1


@pytest.fixture(scope="module")
def gate_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gate]]:
    """Starts a gate in front of apps; says its log when a story of the module failed."""
    running: list[Gate] = []

    def start(apps: list[dict], main: dict | None = None, clear: bool = False) -> Gate:
        gate = Gate(tmp_path_factory.mktemp("gate"), apps, main, clear)
        running.append(gate)
        return gate.start()

    yield start
    for gate in running:
        gate.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return tmp_path_factory.mktemp(request.module.__name__)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's own; nothing is downloaded. As root it runs only without its sandbox."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        yield browser
        browser.close()


@pytest.fixture(params=LOOKS, ids=lambda look: look.name)
def look(request: pytest.FixtureRequest) -> Look:
    return request.param


@pytest.fixture
def window(chromium, gate, look) -> Iterator[Window]:
    """At the gate of its module."""
    window = Window(chromium, look, gate)
    yield window
    window.close()


_numbers = itertools.count(1)


@pytest.fixture
def person_of() -> Iterator[Callable[..., Person]]:
    """A person at a browser of their own. Without a name it is someone whom nobody used before:
    a code works once, so that two stories cannot share an account without waiting for the next."""
    made: list[Person] = []

    def make(gate: Gate, account: Account | None = None, **facts) -> Person:
        person = Person(gate, account or gate.add(f"person{next(_numbers)}", **facts))
        made.append(person)
        return person

    yield make
    for person in made:
        person.close()
