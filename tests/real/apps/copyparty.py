"""copyparty, a file server: large uploads, file names of every kind, its user from its own choice
of header, believed only beside a shared secret."""

from __future__ import annotations

import sys

from . import App

SECRET_HEADER = "X-Proxy-Key"


class Copyparty(App):
    name = "copyparty"
    up = "/?h"

    def command(self) -> list[str]:
        files = self.home / "files"
        files.mkdir(exist_ok=True)
        self.key = self.home / "proxy.key"
        self.key.write_text("correct horse battery staple")
        self.gate = {
            "identity": {"headers": ["remote-user", {SECRET_HEADER: {"file": str(self.key)}}]},
            # File names may hold semicolons.
            "paths": {"like": "unix", "allow": ["path_params"]},
        }
        return [
            sys.executable, "-m", "copyparty", "-i", "127.0.0.1", "-p", str(self.port), "-q",
            "--idp-h-usr", "remote-user", "--idp-h-key", SECRET_HEADER.lower(), "--idp-store", "0",
            "--rproxy", "-1", "--no-crt", "--no-ses",
            "-v", f"{files}::r:rw,@acct:A,ann",
        ]  # fmt: skip


class CopypartyAlone(App):
    """With accounts of its own, and a sign-in that the gate knows nothing of."""

    name = "copyparty"
    up = "/?h"
    gate = {"paths": {"like": "unix"}}
    PASSWORD = "swordfish"

    def command(self) -> list[str]:
        files = self.home / "files"
        files.mkdir(exist_ok=True)
        return [
            sys.executable, "-m", "copyparty", "-i", "127.0.0.1", "-p", str(self.port), "-q", "--rproxy", "-1",
            "--no-crt", "-a", f"lee:{self.PASSWORD}", "-v", f"{files}::r:rw,lee",
        ]  # fmt: skip
