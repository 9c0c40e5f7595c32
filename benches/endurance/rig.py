"""The gate of benches/endure with its app and its store: started, restarted, reloaded, measured."""

import asyncio
import collections
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time

sys.dont_write_bytecode = True
from lab import PASSWORD, ROOT, Lab, free_port, memory_mib
from people import DESK, PORTAL, SHOP

HERE = os.path.dirname(os.path.abspath(__file__))
# What the state, the access log and the gate's own log may take together; the disk that gets full.
DISK = "64m"
FIRST_BYTE = "5s"


class Rig(Lab):
    """`postgres`: the directory of scripts/postgres, or None for SQLite."""

    def __init__(self, binary, people, postgres=None):
        super().__init__(binary, people)
        self.postgres, self.gate, self.app, self.generation = postgres, None, None, 0
        self.disk_is_ours = False

    def __enter__(self):
        super().__enter__()
        self.disk = f"{self.dir}/disk"
        os.mkdir(self.disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", self.disk], capture_output=True)
        self.disk_is_ours = mounted.returncode == 0
        # Open for as long as this runs, whatever the gate does: what systemd does for a service with a socket unit.
        self.doors = [socket.create_server(("127.0.0.1", port), backlog=4096) for port in (self.gate_port, self.ops_port)]
        self.arrivals, self.slow_port = f"{self.dir}/arrivals", free_port()
        return self

    def __exit__(self, *why):
        for door in self.doors:
            door.close()
        for child in list(self.children):
            self.stop(child)
        if self.disk_is_ours:
            subprocess.run(["umount", "-l", self.disk], check=False)
        super().__exit__(*why)

    def settings(self, more_rules=()):
        listen = [{"addr": f"127.0.0.1:{self.gate_port}", "role": "proxy"},
                  {"addr": f"127.0.0.1:{self.ops_port}", "role": "ops"}]  # fmt: skip
        upstream = {"urls": [f"http://127.0.0.1:{self.upstream_port}"], "first_byte_timeout": FIRST_BYTE}
        desk = {"app": "desk", "hosts": [DESK], "upstream": upstream, "identity": {"headers": ["remote-user"]},
                "allow": ["group:staff"], "require": "password",
                "rules": [{"name": "boss", "match": {"path": "/boss/**"}, "allow": ["user:boss"]}, *more_rules]}  # fmt: skip
        slow = {"app": "slow", "hosts": ["slow.test"], "upstream": {"urls": [f"http://127.0.0.1:{self.slow_port}"]},
                "allow": ["anyone"], "require": "none"}  # fmt: skip
        shop = {"app": "shop", "hosts": [SHOP], "upstream": upstream, "allow": ["anyone"], "require": "none"}
        store = {}
        if self.postgres:
            store = {"store": {"url": {"file": f"{self.postgres}/url"}, "keys": {"file": f"{self.disk}/state/keyring.json"}}}
        return {"version": 1, "listen": listen, "portal": {"host": PORTAL, "title": "Endure"},
                "state": f"{self.disk}/state", "apps": [desk, shop, slow]} | store  # fmt: skip

    def configure(self, settings):
        """As editors do it: a new file in the place of the old one."""
        path = self.write("stepgate.yaml.new", settings if isinstance(settings, str) else json.dumps(settings))
        os.rename(path, f"{self.dir}/stepgate.yaml")

    def prepare(self):
        self.configure(self.settings())
        for name in self.people:
            add = [self.binary, "user", "add", name, "--group", "staff", "--password-stdin"]
            subprocess.run(add, env=self.env, input=f"{PASSWORD}\n".encode(), check=True, capture_output=True)

    def start_app(self):
        self.app = self.app_on(self.upstream_port)
        return self.app

    def app_on(self, port):
        with open(f"{self.dir}/app.err", "ab") as err:
            return self.start(None, sys.executable, f"{HERE}/app.py", str(port), self.arrivals, stderr=err)

    def launch(self, under=()):
        """The gate with the sockets that are open already. Logs are on the disk that gets full."""
        fds = [door.fileno() for door in self.doors]
        command = [sys.executable, f"{HERE}/activate.py", ",".join(map(str, fds)), *under, self.binary, "serve"]
        with open(f"{self.disk}/access.log", "ab") as out, open(f"{self.disk}/gate.err", "ab") as err:
            self.gate = self.start(None, *command, env=self.env, stdout=out, stderr=err, pass_fds=fds)
        return self.gate

    def end_gate(self):
        """SIGTERM, and how long it took to end."""
        began = time.monotonic()
        self.gate.send_signal(signal.SIGTERM)
        code = self.gate.wait()
        self.children.remove(self.gate)
        if code:
            sys.exit(f"the gate ended with {code}\n{self.log()[-3000:]}")
        return time.monotonic() - began

    def log(self):
        return open(f"{self.disk}/gate.err", errors="replace").read()

    async def ready(self, seconds=60):
        """What /readyz says, once it is 200."""
        deadline = time.monotonic() + seconds
        while True:
            status, text = await self.ops("/readyz")
            if status == 200:
                return json.loads(text)
            if self.gate.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the gate is not ready: {status} {text}\n{self.log()[-3000:]}")
            await asyncio.sleep(0.02)

    async def ops(self, target):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ops_port)
            writer.write(f"GET {target} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
            writer.close()
            return int(head.split(b" ")[1]), body.decode()
        except (OSError, IndexError, asyncio.TimeoutError) as why:
            return 0, repr(why)

    async def operator(self, *words):
        """A command beside the gate; whether it acknowledged."""
        how = {"env": self.env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return await (await asyncio.create_subprocess_exec(self.binary, *words, **how)).wait() == 0

    def rotate(self):
        """As logrotate's copytruncate does it: half an hour of lines must not fill the disk by themselves."""
        if os.path.getsize(f"{self.disk}/access.log") > 16 << 20:
            os.truncate(f"{self.disk}/access.log", 0)

    def memory(self):
        return memory_mib(self.gate.pid)

    # ---- faults

    def hold_lock(self):
        """SQLite: another process writes and does not come to an end. Returns what lets go."""
        db = sqlite3.connect(f"{self.disk}/state/stepgate.db", isolation_level=None, timeout=10)
        db.execute("BEGIN IMMEDIATE")
        return db.close

    def pause_postgres(self):
        script = f"{ROOT}/scripts/postgres"
        subprocess.run([script, "pause", self.postgres], check=True)
        return lambda: subprocess.run([script, "resume", self.postgres], check=True)

    def fill_disk(self):
        """Returns what frees it again."""
        path = f"{self.disk}/filler"
        with open(path, "wb", buffering=0) as out:
            for size in (1 << 20, 4096):
                try:
                    while out.write(b"\0" * size) == size:
                        pass
                except OSError:
                    pass
        return lambda: os.remove(path)

    # ---- at the end

    def trail(self):
        """Every event of the audit trail, after `audit verify` found it whole."""
        done = subprocess.run([self.binary, "audit", "verify"], env=self.env, capture_output=True, text=True)
        whole = done.returncode == 0
        text = subprocess.run([self.binary, "audit", "export"], env=self.env, check=True, capture_output=True, text=True).stdout
        return whole, (done.stdout + done.stderr).strip(), [json.loads(line) for line in text.splitlines()]

    async def lines_lost(self):
        """Lines of the access log, by why they were lost."""
        _, text = await self.ops("/metrics")
        found = re.findall(r'^stepgate_access_log_dropped_total{reason="(\w+)"} (\S+)', text, re.M)
        return collections.Counter({reason: int(float(n)) for reason, n in found})

    async def metric(self, name):
        _, text = await self.ops("/metrics")
        return sum(float(n) for n in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)", text, re.M))
