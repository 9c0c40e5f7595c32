"""Two services on Node from their own manuals' first pages: socket.io, which polls and then
upgrades, and tus, which takes an upload in pieces and says its own address in `Location`."""

from __future__ import annotations

from . import CACHE, App

# Required from the cache: the suite installs nothing into the clone.
SOCKET_IO = """
const { Server } = require("socket.io");
const http = require("http").createServer((request, response) => response.end("up"));
const io = new Server(http);
io.on("connection", (socket) => {
    socket.emit("who", socket.handshake.headers["remote-user"] ?? "");
    socket.on("say", (text, bytes, heard) => { io.emit("said", text, bytes); heard(text.length); });
});
http.listen(Number(process.env.PORT), "127.0.0.1");
"""

TUS = """
import("@tus/server").then(async ({ Server }) => {
    const { FileStore } = await import("@tus/file-store");
    const datastore = new FileStore({ directory: process.env.HOME + "/uploads" });
    new Server({ path: "/files", datastore, respectForwardedHeaders: true }).listen({ host: "127.0.0.1", port: Number(process.env.PORT) });
});
"""


class _Node(App):
    gate = {"identity": {"headers": ["remote-user"]}}
    script = ""

    def command(self) -> list[str]:
        (self.home / "uploads").mkdir(exist_ok=True)
        # A module is found from where the script lies.
        modules = self.home / "node_modules"
        if not modules.exists():
            modules.symlink_to(CACHE / "node/node_modules")
        script = self.home / f"{self.name}.cjs"
        script.write_text(self.script)
        return ["node", str(script)]

    def environment(self) -> dict[str, str]:
        return {"PORT": str(self.port)}


class SocketIo(_Node):
    name = "socketio"
    script = SOCKET_IO


class Tus(_Node):
    name = "tus"
    script = TUS
