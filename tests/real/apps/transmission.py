"""Transmission from Debian's package, as it comes: it knows itself by its address alone, and answers
every first call of its interface with 409 and a token."""

from __future__ import annotations

from . import App


class Transmission(App):
    name = "transmission"
    up = "/transmission/web/"
    gate = {}

    def command(self) -> list[str]:
        words = ["transmission-daemon", "--foreground", "--no-auth", "--config-dir", str(self.home)]
        return words + ["--port", str(self.port), "--rpc-bind-address", "127.0.0.1", "--download-dir", str(self.home)]
