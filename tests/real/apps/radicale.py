"""Radicale, a CalDAV server: other methods, XML bodies, its user from `X-Remote-User`."""

from __future__ import annotations

import sys
from pathlib import Path

from . import App


class Radicale(App):
    name = "radicale"
    up = "/.web/"
    gate = {"identity": {"headers": [{"X-Remote-User": "user"}]}}

    def command(self) -> list[str]:
        config = self.home / "radicale.conf"
        config.write_text(
            f"[server]\nhosts = 127.0.0.1:{self.port}\n"
            "[auth]\ntype = http_x_remote_user\n"
            "[rights]\ntype = owner_only\n"
            f"[storage]\nfilesystem_folder = {self.home}/collections\n"
        )
        return [sys.executable, "-m", "radicale", "--config", str(config)]
