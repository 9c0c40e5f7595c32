"""JupyterLab: kernels over WebSockets; its user by an identity provider, as its manual describes."""

from __future__ import annotations

import sys

from . import App

CONFIG = '''
from jupyter_server.auth import IdentityProvider, User

class HeaderIdentityProvider(IdentityProvider):
    """Who is signed in? The proxy in front says it in Remote-User."""
    token = ""
    def get_user(self, handler):
        name = handler.request.headers.get("Remote-User", "")
        shown = handler.request.headers.get("Remote-Name", "") or name
        return User(username=name, name=shown) if name else None

c.ServerApp.identity_provider_class = HeaderIdentityProvider
c.ServerApp.allow_remote_access = True
c.ServerApp.allow_unauthenticated_access = False
c.ServerApp.open_browser = False
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.port_retries = 0
'''


class JupyterLab(App):
    name = "jupyter"
    up = "/api"
    gate = {"identity": {"headers": ["remote-user"]}}

    def command(self) -> list[str]:
        config = self.home / "config.py"
        config.write_text(CONFIG)
        (self.home / "work").mkdir(exist_ok=True)
        return [
            sys.executable, "-m", "jupyterlab", "--allow-root", f"--config={config}",
            f"--ServerApp.port={self.port}", f"--ServerApp.root_dir={self.home / 'work'}",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        # Without these it would read the settings of whoever runs the tests.
        return {"JUPYTER_CONFIG_DIR": str(self.home / "etc"), "JUPYTER_DATA_DIR": str(self.home / "share")}
