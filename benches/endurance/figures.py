"""What does one kind of load cost the others, and what do idling, starting and ending cost? Printed, never judged.

    figures.py probe PORT HOST COOKIE SECONDS      one request after the other on a kept connection: its JSON line

The probe is a process of its own, so that the other clients' work is not in its times.
"""

import asyncio
import http.client
import json
import os
import resource
import secrets
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from client import Connection
from lab import cpu_seconds
from people import DESK, Person, World, storm

SLOW = "slow.test"
ROUNDS, SECONDS = 3, 8


def probe(port, host, cookie, seconds):
    """A request every 2 ms or so; anything but a 200 is a failure, a closed connection before an answer too."""
    connection, times, failed = http.client.HTTPConnection("127.0.0.1", port, timeout=60), [], 0
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        try:
            connection.request("GET", "/get/1000/1", headers={"Host": host, "Cookie": cookie})
            answer = connection.getresponse()
            good = answer.status == 200 and len(answer.read()) == 1065
        except OSError:
            good = False
            connection.close()
        failed += not good
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.002)
    times.sort()
    return {"count": len(times), "failed": failed, "p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100]}


async def probed(rig, cookie, seconds=SECONDS):
    command = [sys.executable, __file__, "probe", str(rig.gate_port), DESK, cookie, str(seconds)]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    return json.loads((await child.communicate())[0])


async def person_of(rig, journal, name):
    person = Person(World(rig.gate_port, rig.ops_port, journal), name)
    if not await person.until_signed_in():
        sys.exit("nobody can sign in")
    return person


def slow_app_is_asked(rig):
    async def one():
        connection = Connection(rig.gate_port)
        while True:
            await connection.send("GET", "/wait/2000/1", {"Host": SLOW})

    return [asyncio.ensure_future(one()) for _ in range(200)]


def slow_readers(rig):
    async def one():
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, ("127.0.0.1", rig.gate_port))
        await loop.sock_sendall(plain, f"GET /get/1000000/1 HTTP/1.1\r\nHost: {SLOW}\r\n\r\n".encode())
        while await loop.sock_recv(plain, 4096):
            await asyncio.sleep(0.5)

    return [asyncio.ensure_future(one()) for _ in range(200)]


async def ratios(rig, journal, crowd):
    """p99 of proxied requests beside a load, as a ratio to the p99 without it just before."""
    ann = await person_of(rig, journal, rig.people[0])
    cookie = ann.jar.line(DESK)
    people = [Person(ann.world, name) for name in crowd]
    await asyncio.gather(*(one.until_signed_in() for one in people))

    def sign_ins(_):
        return [asyncio.ensure_future(storm(ann.world, people, SECONDS + 2))]

    print(f"{'beside':<34} {'p99 idle':>9} {'p99 then':>9} {'ratio (median; least, most)':>30}   p50 ratio")
    for name, start in [("a storm of sign-ins (40 at a time)", sign_ins), ("200 requests to a slow app", slow_app_is_asked),
                        ("200 slow readers", slow_readers)]:  # fmt: skip
        found = []
        for _ in range(ROUNDS):
            before = await probed(rig, cookie)
            others = start(rig)
            await asyncio.sleep(1)
            then = await probed(rig, cookie)
            for one in others:
                one.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            if before["failed"] or then["failed"]:
                sys.exit(f"requests failed: {before} {then}")
            found.append((then["p99"] / before["p99"], before["p99"], then["p99"], then["p50"] / before["p50"]))
            await asyncio.sleep(1)
        found.sort()
        middle = found[len(found) // 2]
        print(f"{name:<34} {middle[1]:>6.2f} ms {middle[2]:>6.2f} ms {middle[0]:>12.2f} ({found[0][0]:.2f}, {found[-1][0]:.2f})"
              f"{'':>10} {statistics.median(f[3] for f in found):.2f}", flush=True)  # fmt: skip
    print(f"(sign-ins that ended well: {journal.counts['sign-in', 'ok']})")


def ten_thousand_sessions(rig):
    """Copies of one that somebody has."""
    db = sqlite3.connect(f"{rig.disk}/state/stepgate.db")
    session = db.execute("SELECT user_id, created_at, last_seen_at, expires_at, address, user_agent FROM sessions").fetchone()
    token = db.execute("SELECT host, evidence, created_at FROM tokens").fetchone()
    for n in range(10_000):
        name = f"01a00000-0000-7000-8000-{n:012x}"
        db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)", (name, *session))
        db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, NULL)", (secrets.token_bytes(32), name, *token))
    db.commit()
    db.close()


def started(rig):
    """Seconds from exec to READY=1, on sockets that it opens itself: no other program is in the time."""
    path = f"{rig.dir}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(60)
        with open(f"{rig.disk}/access.log", "ab") as out, open(f"{rig.disk}/gate.err", "ab") as err:
            began = time.monotonic()
            rig.gate = rig.start(None, rig.binary, "serve", env=rig.env | {"NOTIFY_SOCKET": path}, stdout=out, stderr=err)
        while b"READY=1" not in told.recv(4096):
            pass
        took = time.monotonic() - began
    os.remove(path)
    return took


async def start(rig, journal):
    rig.end_gate()
    for door in rig.doors:
        door.close()
    started(rig)
    ann = await person_of(rig, journal, rig.people[0])
    rig.end_gate()
    ten_thousand_sessions(rig)
    starts, drains = [], []
    for _ in range(7):
        starts.append(started(rig))
        drains.append(rig.end_gate())
    said = lambda times: f"{statistics.median(times) * 1000:.0f} ms (least {min(times) * 1000:.0f}, most {max(times) * 1000:.0f})"
    print(f"start to ready, with 10 000 sessions: {said(starts)}; drain with nothing open: {said(drains)}")
    drains = []
    for _ in range(3):
        started(rig)
        idle = [Connection(rig.gate_port) for _ in range(1000)]
        for one in idle:
            await one.open()
            await one.send("GET", "/get/10/1", {"Host": DESK, "Cookie": ann.jar.line(DESK)})
        drains.append(rig.end_gate())
        for one in idle:
            one.close()
    print(f"drain with 1000 idle connections: {said(drains)}")
    started(rig)
    await asyncio.sleep(5)
    switches = lambda: sum(int(line.split()[1]) for task in os.listdir(f"/proc/{rig.gate.pid}/task")
                           for line in open(f"/proc/{rig.gate.pid}/task/{task}/status") if "ctxt_switches" in line)  # fmt: skip
    cpu, woken = cpu_seconds(rig.gate.pid), switches()
    await asyncio.sleep(60)
    cpu, woken = cpu_seconds(rig.gate.pid) - cpu, switches() - woken
    print(f"idle for 60 s, with 10 000 sessions: {cpu:.2f} s of CPU ({cpu / 60:.2%} of a core), {woken / 60:.0f} switches a second")
    probing = asyncio.ensure_future(probed(rig, ann.jar.line(DESK), 12))
    before, reloads = await rig.metric("stepgate_config_generation"), 0
    while not probing.done():
        rig.configure(rig.settings([{"name": f"r{reloads}", "match": {"path": "/nowhere/**"}, "deny": "Nobody."}]))
        rig.gate.send_signal(signal.SIGHUP)
        reloads += 1
        await asyncio.sleep(0.5)
    told, taken = await probing, await rig.metric("stepgate_config_generation") - before
    print(f"{taken:.0f} reloads under load: {told['count']} requests, {told['failed']} failed; p99 {told['p99']:.2f} ms")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(probe(int(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5]))))
