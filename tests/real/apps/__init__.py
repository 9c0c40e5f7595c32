"""Unmodified programs of other people, each started as its own manual says for a trusted header.

An `App` knows how to run itself on loopback and what its file for the gate holds; it knows nothing
else of Stepgate.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

CACHE = Path(os.environ.get("STEPGATE_TEST_CACHE", Path.home() / ".cache/stepgate-test"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class App:
    """One running program. Subclasses say how it starts, and how it is asked whether it is up."""

    name: str
    #: The app's own file for the gate, without hosts and upstream.
    gate: dict = {}
    #: Asked until it answers with anything.
    up = "/"

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "output.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=home,
                env=os.environ | {"HOME": str(home)} | self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def _wait(self) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                urllib.request.urlopen(self.url + self.up, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
        output = self.log.read_text(errors="replace")[-4000:]
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{output}")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
