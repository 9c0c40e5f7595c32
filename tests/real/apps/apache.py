"""Apache from the Debian package `apache2-bin`, with a configuration of our own and no service: a
WebDAV server, PHP with PATH_INFO, git's own CGI, and a file server with ranges and compression."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import App

MODULES = (
    "mpm_event authz_core alias mime dir env setenvif negotiation filter deflate autoindex cgid actions dav dav_fs dav_lock"
)

CONFIG = """
ServerRoot {home}
ServerName app.internal
Listen 127.0.0.1:{port}
PidFile {home}/httpd.pid
ErrorLog {home}/error.log
DefaultRuntimeDir {home}
ScriptSock {home}/cgid.sock
TypesConfig /etc/mime.types
DocumentRoot {home}/www
LimitRequestBody 0
{modules}
{account}
StartServers 1
<Directory />
  Require all granted
  Options +Indexes +MultiViews
</Directory>
DirectoryIndex index.php index.html
AddOutputFilterByType DEFLATE text/plain text/html
# Ranges of what is packed on the way are no ranges of the file.
SetEnvIf Request_URI \\.bin$ no-gzip

DavLockDB {home}/lockdb
<Directory {home}/www/dav>
  Dav On
</Directory>

ScriptAlias /php-cgi /usr/bin/php-cgi
Action application/x-httpd-php /php-cgi
AddType application/x-httpd-php .php

SetEnv GIT_PROJECT_ROOT {home}/git
SetEnv GIT_HTTP_EXPORT_ALL 1
SetEnvIf Remote-User (.+) REMOTE_USER=$1
ScriptAlias /git {backend}
"""

# What PHP makes of a request; as many cookies as some apps set, one by one.
SHOW = """<?php
for ($i = 1; $i <= 40; $i++) setcookie("part$i", str_repeat("$i-", 40), ['path' => '/show.php', 'httponly' => true]);
header('Content-Location: http://127.0.0.1:{port}/show.php');
header('Refresh: 600; url=http://127.0.0.1:{port}/show.php');
header('Content-Type: application/json');
echo json_encode(['info' => $_SERVER['PATH_INFO'] ?? null, 'query' => $_SERVER['QUERY_STRING'], 'user' =>
    $_SERVER['HTTP_REMOTE_USER'] ?? null, 'via' => $_SERVER['HTTP_X_VIA_GATE'] ?? null,
    'method' => $_SERVER['REQUEST_METHOD'], 'cookies' => count($_COOKIE), 'length' => strlen(file_get_contents('php://input'))]);
"""


class Apache(App):
    name = "apache"
    gate = {
        "identity": {"headers": ["remote-user", {"X-Via-Gate": {"text": "stepgate"}}]},
        "paths": {"like": "php"},
        "max_body": "4GiB",
    }

    def __init__(self, home: Path) -> None:
        # Apache gives root's rights away, and whoever gets them cannot enter pytest's directories.
        self.outside = None
        if os.geteuid() == 0:
            self.outside = Path(tempfile.mkdtemp(prefix="stepgate-apache-"))
            self.outside.chmod(0o755)
        super().__init__(self.outside or home)

    def command(self) -> list[str]:
        for folder in ("www/dav/vault", "www/dir", "git"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "www/show.php").write_text(SHOW.replace("{port}", str(self.port)))
        (self.home / "www/text.txt").write_text("all work and no play " * 5000)
        account = ""
        if self.outside:
            account = "User nobody\nGroup nogroup"
            subprocess.run(["chown", "-R", "nobody:nogroup", self.home], check=True)
        backend = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
        modules = [
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in MODULES.split()
        ]
        config = self.home / "httpd.conf"
        config.write_text(
            CONFIG.replace("{home}", str(self.home))
            .replace("{port}", str(self.port))
            .replace("{modules}", "\n".join(modules))
            .replace("{account}", account)
            .replace("{backend}", f"{backend}/git-http-backend")
        )
        return ["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(config)]

    def repository(self, name: str) -> None:
        """An empty one that takes pushes."""
        path = self.home / "git" / name
        subprocess.run(["git", "init", "-q", "--bare", path], check=True)
        subprocess.run(["git", "-C", path, "config", "http.receivepack", "true"], check=True)
        subprocess.run(["git", "-C", path, "config", "core.logAllRefUpdates", "true"], check=True)
        if self.outside:
            subprocess.run(["chown", "-R", "nobody:nogroup", path], check=True)

    def stop(self) -> None:
        super().stop()
        if self.outside:
            shutil.rmtree(self.outside, ignore_errors=True)
