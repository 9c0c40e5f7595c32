"""A restart that nobody notices: the sockets stay open in whoever starts the gate, as systemd does it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gate import STEPGATE, Gate

ACTIVATE = Path(__file__).parents[2] / "benches/endurance/activate.py"


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def app():
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Systemd:
    """As much of it as a service with sockets sees: descriptors, and a socket that it tells its state."""

    def __init__(self, home: Path, apps: list[dict]) -> None:
        self.doors = [socket.create_server(("127.0.0.1", 0), backlog=4096) for _ in range(2)]
        proxy, ops = (door.getsockname()[1] for door in self.doors)
        listen = [{"addr": f"127.0.0.1:{proxy}", "role": "proxy"}, {"addr": f"127.0.0.1:{ops}", "role": "ops"}]
        self.gate = Gate(home, apps, {"listen": listen}, clear=True)
        self.port, self.ops = proxy, ops
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.told.bind(str(home / "notify"))
        self.told.settimeout(30)
        self.home, self.process = home, None

    def start(self) -> None:
        fds = [door.fileno() for door in self.doors]
        serve = [sys.executable, ACTIVATE, ",".join(map(str, fds)), STEPGATE, "serve", "--config", self.gate.config]
        env = os.environ | {"NOTIFY_SOCKET": str(self.home / "notify")}
        with self.gate.log.open("ab") as log:
            self.process = subprocess.Popen(serve, env=env, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until("READY=1")

    def until(self, word: str) -> list[str]:
        """What it is told, up to this."""
        words: list[str] = []
        while word not in words:
            words += self.told.recv(4096).decode().splitlines()
        return words

    def restart(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.until("STOPPING=1")
        assert self.process.wait(40) == 0, self.gate.log.read_text()[-3000:]
        self.start()

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        for door in self.doors:
            door.close()
        self.told.close()


class Client(threading.Thread):
    """Keeps its connection, and knows what every browser knows: a kept one may have been closed meanwhile, and
    then a GET goes out again on a new one. On a new one nothing may fail."""

    def __init__(self, port: int, stop: threading.Event, pause: float, keeps: bool) -> None:
        super().__init__(daemon=True)
        self.port, self.stop, self.pause, self.keeps = port, stop, pause, keeps
        self.answered, self.again, self.failed = 0, 0, []

    def run(self) -> None:
        connection, kept = None, False
        while not self.stop.wait(self.pause):
            target = f"/{id(self)}/{self.answered}"
            while True:
                if connection is None:
                    connection, kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40), False
                try:
                    connection.request("GET", target, headers={"Host": "app.localhost"})
                    answer = connection.getresponse()
                    body = answer.read().decode()
                    if answer.status != 200 or body != target:
                        self.failed.append(f"{answer.status} {body}")
                    self.answered += 1
                    kept = True
                    if not self.keeps or answer.will_close:
                        connection.close()
                        connection = None
                    break
                except OSError as why:
                    connection.close()
                    connection = None
                    if not kept:
                        self.failed.append(repr(why))
                        break
                    self.again += 1


def test_restarts_under_load_refuse_no_connection_and_fail_no_request(tmp_path, app):
    public = {"app": "app", "hosts": ["app"], "upstream": {"urls": [app]}, "allow": ["anyone"], "require": "none"}
    systemd = Systemd(tmp_path, [public | {"hosts": ["app"]}])
    # Its host has the port that Gate chose; the clients say that one.
    host = systemd.gate.host("app")
    systemd.gate.config.write_text(systemd.gate.config.read_text().replace(host, "app.localhost"))
    stop = threading.Event()
    # Busy ones, one that asks each 1.5 s on a connection that a drain finds idle, and those that keep nothing.
    clients = [Client(systemd.port, stop, *how) for how in [(0.005, True)] * 4 + [(1.5, True)] * 4 + [(0.01, False)] * 4]
    try:
        systemd.start()
        for client in clients:
            client.start()
        for _ in range(3):
            before = [client.answered for client in clients]
            systemd.restart()
            while any(client.answered == was and client.is_alive() for client, was in zip(clients, before)):
                stop.wait(0.05)
        systemd.process.send_signal(signal.SIGHUP)
        told = systemd.until("READY=1")
        assert "RELOADING=1" in told and any(word.startswith("MONOTONIC_USEC=") for word in told), told
        with socket.create_connection(("127.0.0.1", systemd.ops)) as ops:
            ops.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert ops.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        stop.set()
        for client in clients:
            client.join()
        systemd.close()
    failed = [why for client in clients for why in client.failed]
    assert not failed, failed[:10]
    print(sum(client.answered for client in clients), "answers,", sum(client.again for client in clients), "asked again")


def test_a_socket_that_no_listener_has_is_named(tmp_path, app):
    systemd = Systemd(tmp_path, [])
    extra = socket.create_server(("127.0.0.1", 0))
    systemd.doors.append(extra)
    try:
        systemd.start()
        log = systemd.gate.log.read_text()
        assert "no listener of the file has" in log and f":{extra.getsockname()[1]}" in log
    finally:
        systemd.close()
