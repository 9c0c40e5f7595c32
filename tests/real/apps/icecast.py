"""Icecast from Debian's package: one client sends music without an end, others hear it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import App

CONFIG = """<icecast>
<limits><clients>20</clients><sources>2</sources><queue-size>1048576</queue-size><burst-size>65535</burst-size></limits>
<authentication><source-password>hackme</source-password><admin-password>hackme</admin-password></authentication>
<hostname>app.internal</hostname>
<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
<paths><basedir>/usr/share/icecast2</basedir><webroot>/usr/share/icecast2/web</webroot>
<adminroot>/usr/share/icecast2/admin</adminroot><logdir>{home}</logdir></paths>
<logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog></logging>
<security><chroot>0</chroot>{account}</security>
</icecast>
"""


class Icecast(App):
    name = "icecast"
    up = "/status-json.xsl"
    gate = {}

    def __init__(self, home: Path) -> None:
        # It does not run as root, and whoever it becomes cannot enter pytest's directories.
        self.outside = Path(tempfile.mkdtemp(prefix="stepgate-icecast-")) if os.geteuid() == 0 else None
        super().__init__(self.outside or home)

    def command(self) -> list[str]:
        account = ""
        if self.outside:
            account = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"
            subprocess.run(["chown", "nobody:nogroup", self.home], check=True)
        config = self.home / "icecast.xml"
        config.write_text(CONFIG.format(port=self.port, home=self.home, account=account))
        return ["icecast2", "-c", str(config)]

    def stop(self) -> None:
        super().stop()
        if self.outside:
            shutil.rmtree(self.outside, ignore_errors=True)
