"""A page or two for the browser's stories: greets, has a part far down, and a live stream."""

from __future__ import annotations

import html
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import App

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Old app</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body><main><h1>Old app</h1>
<p id="greeting">Hello, {user}</p><p id="where">{path}</p><p><a href="/.stepgate/logout">Log out</a></p>
{more}</main></body></html>"""

LIVE = """<p id="state">connecting</p><script>
const source = new EventSource('/events'), state = document.getElementById('state');
source.onmessage = () => { state.textContent = 'live'; };
source.onerror = () => { state.textContent = 'ended'; source.close(); };
</script>"""

TYPING = """<script src="/.stepgate/static/keepalive.js" data-idle="0.05"></script>
<label>Note <input id="note"></label> <button id="save">Save</button> <p id="saved">not yet</p><script>
document.getElementById('save').onclick = async () => {
  const answer = await fetch('/save', { method: 'POST', body: document.getElementById('note').value });
  document.getElementById('saved').textContent = await answer.text();
};
</script>"""

NOTE = """<form method="post" action="/saved?list=7" enctype="multipart/form-data">
<label>Note <textarea name="note"></textarea></label> <label>File <input type="file" name="file"></label>
<button>Save</button></form>"""

LONG = '<div style="height: 3000px"></div><h2 id="far">Far down</h2><div style="height: 3000px"></div>'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/events":
            return self.events()
        user = html.escape(self.headers.get("Remote-User", ""))
        more = {"/live": LIVE, "/long": LONG, "/typing": TYPING, "/notes/new": NOTE}.get(self.path, "")
        body = PAGE.format(user=user, path=html.escape(self.path), more=more).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if self.path.startswith("/saved"):
            text += f", from {self.headers.get('Origin')}"
        body = f"{text}, by {self.headers.get('Remote-User', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"data: tick\n\n")
                time.sleep(0.2)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class OldApp(App):
    name = "old"
    gate = {"identity": {"headers": ["remote-user"]}}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "apps.old_app", str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(__import__("pathlib").Path(__file__).parents[1])}


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
