"""Node-RED: an editor that deploys over REST and listens on a WebSocket; its user from a token
header, which its manual offers for programs behind a proxy."""

from __future__ import annotations

from . import CACHE, App

SETTINGS = """
module.exports = {
    uiHost: "127.0.0.1",
    uiPort: Number(process.env.PORT),
    userDir: process.env.HOME,
    flowFile: "flows.json",
    credentialSecret: "only for this test",
    diagnostics: { enabled: false },
    telemetry: { enabled: false },
    adminAuth: {
        type: "credentials",
        users: [],
        tokenHeader: "remote-user",
        tokens: async (name) => (name ? { username: name, permissions: "*" } : null),
    },
};
"""


class NodeRed(App):
    name = "nodered"
    up = "/auth/login"
    gate = {"identity": {"headers": ["remote-user"]}}

    def command(self) -> list[str]:
        settings = self.home / "settings.js"
        settings.write_text(SETTINGS)
        return ["node", str(CACHE / "node/node_modules/node-red/red.js"), "--settings", str(settings)]

    def environment(self) -> dict[str, str]:
        return {"PORT": str(self.port), "NODE_RED_DISABLE_UPDATE_CHECK": "1"}
