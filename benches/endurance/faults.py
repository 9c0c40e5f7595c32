"""What goes wrong while the gate endures, in which order, and what the documentation promises for that time."""

import asyncio
import collections
import signal
import sys

sys.dont_write_bytecode = True
import people

APP_AWAY = ("status 502", "status 503", "status 504", "broken", "closed")
# `ended`: a session that is not in memory any more cannot be looked up.
STORE_AWAY = {"sign-in": ("status 503",), "sign-out": ("status 503",), "ended": ("status 503",)}
# A drain ends what takes longer than 30 s, and WebSockets at once. A POST is not sent again on a connection that
# was kept and is closed now: whether it arrived is not known to the client.
RESTART = {"socket": ("closed", "broken"), "download": ("broken",), "events": ("broken",)}


class Faults:
    def __init__(self, world, rig, names):
        self.world, self.rig, self.journal = world, rig, world.journal
        self.crowd = [people.Person(world, name) for name in names]
        self.drains, self.lines_lost, self.lost_while_full = [], collections.Counter(), 0

    async def _while(self, name, allowed, seconds, begin, grace=3.0):
        """`begin` returns what ends it. Afterwards people can sign in again, without a restart."""
        window = self.journal.window(name, allowed, grace)
        end = await asyncio.to_thread(begin)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(end)
        window.ended = asyncio.get_running_loop().time()

    async def app_restarts(self):
        def begin():
            self.rig.app.kill()
            self.rig.app.wait()
            self.rig.children.remove(self.rig.app)
            return self.rig.start_app

        await self._while("the app is killed, and starts again", {"*": APP_AWAY}, 1.5, begin)

    async def app_resets(self):
        def begin():
            self.rig.app.send_signal(signal.SIGUSR1)
            return lambda: None

        await self._while("the app breaks its answers off", {"*": APP_AWAY}, 2.2, begin)

    async def app_stalls(self):
        def begin():
            self.rig.app.send_signal(signal.SIGSTOP)
            return lambda: self.rig.app.send_signal(signal.SIGCONT)

        await self._while("the app stands still for 7 s", {"*": ("status 504", "status 502", "closed")}, 7, begin)

    async def good_reload(self):
        self.rig.generation += 1
        rule = {"name": f"r{self.rig.generation}", "match": {"path": "/nowhere/**"}, "deny": "Nobody."}
        before = await self.rig.metric("stepgate_config_generation")

        def begin():
            self.rig.configure(self.rig.settings([rule]))
            self.rig.gate.send_signal(signal.SIGHUP)
            return lambda: None

        await self._while("a good file is read", {}, 2, begin)
        if await self.rig.metric("stepgate_config_generation") <= before:
            self.journal.wrong("operator", "-", "reload", 0.0, "a good file was not taken")

    async def bad_reload(self):
        def begin():
            self.rig.configure("version: 1\nlisten: [")
            self.rig.gate.send_signal(signal.SIGHUP)
            return lambda: None

        await self._while("a bad file is read, and refused", {}, 2, begin)
        if '"refused":"' not in (await self.rig.ops("/readyz"))[1]:
            self.journal.wrong("operator", "-", "reload", 0.0, "a bad file was not refused")
        self.rig.configure(self.rig.settings())
        await asyncio.sleep(1.5)

    async def gate_restarts(self):
        window = self.journal.window("the gate ends and starts again, its sockets stay open", RESTART)
        self.lines_lost += await self.rig.lines_lost()
        self.drains.append(await asyncio.to_thread(self.rig.end_gate))
        self.rig.launch()
        await self.rig.ready()
        window.ended = asyncio.get_running_loop().time()

    async def store_is_away(self):
        if self.rig.postgres:
            await self._while("PostgreSQL is stopped, and starts again", STORE_AWAY, 6, self.rig.pause_postgres, 6)
        else:
            await self._while("another process holds the database's lock", STORE_AWAY, 7, self.rig.hold_lock)

    async def disk_is_full(self):
        before = (await self.rig.lines_lost())["unwritten"]
        await self._while("the disk is full", STORE_AWAY, 6, self.rig.fill_disk)
        # What was handed over by then meets the disk within a tick.
        await asyncio.sleep(1)
        self.lost_while_full += (await self.rig.lines_lost())["unwritten"] - before

    async def storm(self):
        window = self.journal.window("too many sign in at once", {"sign-in": ("status 503", "status 429")})
        await people.storm(self.world, self.crowd, 6)
        window.ended = asyncio.get_running_loop().time()

    async def run(self, until):
        """Once each, then again while there is time. In the second half the gate is not restarted, so that its
        memory can be judged; each time it is asked whether people can sign in afterwards."""
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        once = [self.good_reload, self.app_restarts, self.storm, self.store_is_away, self.bad_reload, self.app_resets,
                self.gate_restarts, self.app_stalls, self.good_reload]  # fmt: skip
        if self.rig.disk_is_ours:
            once.insert(4, self.disk_is_full)
        first = True
        while first or loop.time() < until:
            for fault in once:
                if not first and loop.time() >= until:
                    return
                if fault == self.gate_restarts and not first and loop.time() > (began + until) / 2:
                    continue
                await fault()
                await self._heals(fault.__name__)
                await asyncio.sleep(1 if first else 8)
            first = False

    async def _heals(self, what):
        loop = asyncio.get_running_loop()
        over = loop.time()
        while self.journal.last_sign_in < over:
            if loop.time() > over + 20:
                self.journal.wrong("sign-in", "-", what, over, "nobody could sign in for 20 s after a fault was over")
                return
            await asyncio.sleep(0.1)
