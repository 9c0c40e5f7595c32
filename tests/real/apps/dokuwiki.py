"""DokuWiki from the Debian package, on PHP's own server: forms with tokens, uploads, cookies of its
own. It has no sign-in by header built in; its manual's way is a plugin with `trustExternal`."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import App

PACKAGE = Path("/usr/share/dokuwiki")

PLUGIN = """<?php
class auth_plugin_authheader extends DokuWiki_Auth_Plugin {
    public function __construct() {
        parent::__construct();
        $this->cando['external'] = true;
    }
    public function trustExternal($user, $pass, $sticky = false) {
        global $USERINFO;
        $name = $_SERVER['HTTP_REMOTE_USER'] ?? '';
        if ($name === '') return false;
        $USERINFO = ['name' => $_SERVER['HTTP_REMOTE_NAME'] ?: $name, 'mail' => $_SERVER['HTTP_REMOTE_EMAIL'] ?? '',
                     'grps' => explode(',', $_SERVER['HTTP_REMOTE_GROUPS'] ?? '')];
        $_SERVER['REMOTE_USER'] = $name;
        $_SESSION[DOKU_COOKIE]['auth'] = ['user' => $name, 'info' => $USERINFO];
        return true;
    }
    public function getUserData($user, $requireGroups = true) {
        global $USERINFO;
        return $USERINFO ?: false;
    }
}
"""

PLUGIN_INFO = "base authheader\nauthor stepgate\nemail root@localhost\ndate 2026-01-01\nname authheader\ndesc Remote-User\nurl http://localhost/\n"

# The package keeps its settings in /etc and its pages in /var/lib, for one wiki on the machine;
# this moves both beside the test, in the way that the package's own preload.php foresees.
PREPEND = "<?php define('DOKU_CONF', '{home}/conf/');\n"

LOCAL = """<?php
$conf['title'] = 'Wiki';
$conf['savedir'] = '{home}/data';
$conf['useacl'] = 1;
$conf['superuser'] = '@admins';
$conf['authtype'] = 'authheader';
$conf['updatecheck'] = 0;
$conf['htmlok'] = 0;
"""

ACL = "# page  who  rights (8: read, edit, create, upload)\n*\t@ALL\t0\n*\t@staff\t8\n"


class DokuWiki(App):
    name = "dokuwiki"
    up = "/doku.php"
    gate = {"identity": {"headers": ["remote-user"]}, "paths": {"like": "php"}}

    def command(self) -> list[str]:
        root = self.home / "wiki"
        shutil.copytree(PACKAGE, root, symlinks=False, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        plugin = root / "lib/plugins/authheader"
        plugin.mkdir(exist_ok=True)
        (plugin / "auth.php").write_text(PLUGIN)
        (plugin / "plugin.info.txt").write_text(PLUGIN_INFO)
        conf = self.home / "conf"
        conf.mkdir(exist_ok=True)
        for name in ("userprint.css", "userstyle.css"):
            (conf / name).touch()
        (conf / "local.php").write_text(LOCAL.replace("{home}", str(self.home)))
        (conf / "acl.auth.php").write_text(ACL)
        for name in "attic cache index locks media media_attic media_meta meta pages tmp log".split():
            (self.home / "data" / name).mkdir(parents=True, exist_ok=True)
        prepend = self.home / "prepend.php"
        prepend.write_text(PREPEND.replace("{home}", str(self.home)))
        return [
            "php", "-d", f"auto_prepend_file={prepend}", "-d", "upload_max_filesize=50M", "-d", "post_max_size=50M",
            "-d", "display_errors=stderr", "-d", "error_reporting=E_ALL&~E_DEPRECATED&~E_NOTICE&~E_WARNING",
            "-d", f"session.save_path={self.home}",
            "-S", f"127.0.0.1:{self.port}", "-t", str(root),
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        # PHP's own server answers one request at a time otherwise.
        return {"PHP_CLI_SERVER_WORKERS": "4"}
