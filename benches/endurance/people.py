"""Who uses the gate while it endures? Each coroutine here is one client, and enters in the journal what it was told."""

import asyncio
import itertools
import os
import random
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True
import proof
from client import SESSION, Broken, Connection, Jar, form_of, page_headers
from lab import PASSWORD

DESK, SHOP, PORTAL = "desk.test", "shop.test", "login.test"
NOBODY = "-"
TIMEOUT = 45
numbers = itertools.count(1)


class World:
    """What all clients share."""

    def __init__(self, port, ops_port, journal):
        self.port, self.ops_port, self.journal = port, ops_port, journal
        self.stop = asyncio.Event()
        self.random = random.Random(7)
        # An address that nobody signed in from before has 30 tries under way at most, and all are of one here.
        self.first_sign_ins = asyncio.Semaphore(8)

    async def pause(self, seconds):
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def id(self):
        return f"{next(numbers)}"


class Person:
    """A browser: a jar, and one connection that is kept. `name` is None for somebody who never signs in."""

    def __init__(self, world, name):
        self.world, self.name, self.jar = world, name, Jar()
        self.connection = Connection(world.port)
        self.agent = "endure"

    @property
    def host(self):
        return DESK if self.name else SHOP

    async def ask(self, kind, method, target, headers=None, body=b"", each=None, host=None, statuses=(200,)):
        """One request with everything that belongs to it; None where there is no whole answer, or one with
        another status than those. Its outcome is in the journal then; otherwise the caller enters it."""
        world, host = self.world, host or self.host
        began = time.monotonic()
        headers = headers or {"Host": host, "Accept": "*/*", "User-Agent": self.agent, "Cookie": self.jar.line(host)}
        if not headers.get("Cookie", "x"):
            headers.pop("Cookie")
        try:
            for attempt in (1, 2):
                try:
                    sent = self.connection.send(method, target, headers, body, each)
                    answer = await asyncio.wait_for(sent, TIMEOUT)
                    break
                except Broken as why:
                    if attempt == 2 or why.fresh or why.got or method == "POST":
                        raise
                    world.journal.counts["kept connection ended", "ok"] += 1
        except Broken as why:
            world.journal.enter(kind, self.name or NOBODY, target, began, why.how)
            return began, None
        except asyncio.TimeoutError:
            world.journal.enter(kind, self.name or NOBODY, target, began, "timeout")
            return began, None
        if answer.status not in statuses:
            world.journal.enter(kind, self.name or NOBODY, target, began, f"status {answer.status}")
            return began, None
        return began, answer

    async def proved(self, kind, method, target, body=b"", size=200):
        """One request whose answer must prove that it is ours; whether it did."""
        began, answer = await self.ask(kind, method, target, body=body)
        if answer is None:
            return False
        who = self.name or NOBODY
        if answer.body != proof.answer(method, target, who, proof.digest(body), size):
            self.world.journal.wrong(kind, who, target, began, f"answer: {answer.body[:80]!r}")
            return False
        self.world.journal.enter(kind, who, target, began, "ok")
        return True

    async def sign_in(self):
        """From a page of the app back to it. True when signed in; the password's own answer is the acknowledgement."""
        world, journal = self.world, self.world.journal
        self.jar.forget(SESSION)
        self.agent = f"endure-{world.id()}"
        url = f"http://{DESK}/get/10/{world.id()}"
        began, answer = await self._page("GET", url, (302, 303))
        if answer is None:
            return False
        url = urllib.parse.urljoin(url, answer.fields["location"])
        _, answer = await self._page("GET", url, (200,))
        if answer is None:
            return False
        action, fields = form_of(answer)
        form = urllib.parse.urlencode(fields | {"username": self.name, "password": PASSWORD}).encode()
        url = urllib.parse.urljoin(url, action)
        _, answer = await self._page("POST", url, (302, 303), form)
        if answer is None:
            return False
        if SESSION not in self.jar.get(PORTAL, {}):
            journal.wrong("sign-in", self.name, url, began, f"no session after {answer.status}")
            return False
        journal.sign_ins.append((self.name, self.agent))
        for _ in range(4):
            url = urllib.parse.urljoin(url, answer.fields["location"])
            _, answer = await self._page("GET", url, (200, 302, 303))
            if answer is None:
                return False
            if answer.status == 200:
                break
        target = urllib.parse.urlsplit(url).path
        if answer.body != proof.answer("GET", target, self.name, proof.digest(b""), 10):
            journal.wrong("sign-in", self.name, url, began, f"ended at {url}: {answer.status} {answer.body[:80]!r}")
            return False
        journal.enter("sign-in", self.name, target, began, "ok")
        journal.last_sign_in = time.monotonic()
        return True

    async def _page(self, method, url, statuses, body=b"", kind="sign-in"):
        parts = urllib.parse.urlsplit(url)
        headers = page_headers(parts.netloc, self.jar, self.agent)
        if method == "POST":
            headers |= {"Origin": f"http://{parts.netloc}", "Content-Type": "application/x-www-form-urlencoded"}
        target = parts.path + ("?" + parts.query if parts.query else "")
        began, answer = await self.ask(kind, method, target, headers, body, host=parts.netloc, statuses=statuses)
        if answer is not None:
            self.jar.take(parts.netloc, answer)
        return began, answer

    async def until_signed_in(self):
        while not self.world.stop.is_set():
            async with self.world.first_sign_ins:
                if await self.sign_in():
                    return True
            await self.world.pause(0.5)
        return False

    async def sign_out(self):
        url = f"http://{DESK}/.stepgate/logout"
        began, answer = await self._page("GET", url, (200,), kind="sign-out")
        if answer is None:
            return False
        action, fields = form_of(answer)
        url = urllib.parse.urljoin(url, action)
        _, answer = await self._page("POST", url, (302, 303), urllib.parse.urlencode(fields).encode(), "sign-out")
        if answer is None:
            return False
        self.world.journal.sign_outs.append((self.name, self.agent))
        self.world.journal.enter("sign-out", self.name, "", began, "ok")
        return True

    async def is_nobody_now(self, cookies, since, why):
        """A session whose end was acknowledged opens nothing from the next second on."""
        self.connection.close()
        await asyncio.sleep(max(0.0, since + 1 - time.monotonic()))
        headers = {"Host": DESK, "Accept": "*/*", "User-Agent": self.agent, "Cookie": cookies}
        for _ in range(5):
            target = f"/get/10/{self.world.id()}"
            began, answer = await self.ask("ended", "GET", target, dict(headers), host=DESK, statuses=(200, 401, 302, 303))
            if answer is not None and answer.status == 200:
                self.world.journal.wrong("ended", self.name, target, began, f"a session lives on after {why}")
            elif answer is not None:
                self.world.journal.enter("ended", self.name, target, began, "ok")
            await self.world.pause(0.3)


async def reads(world, name):
    person = Person(world, name)
    if name and not await person.until_signed_in():
        return
    while not world.stop.is_set():
        size = world.random.choice((100, 1000, 4000, 60_000))
        await person.proved("get", "GET", f"/get/{size}/{world.id()}", size=size)
        await world.pause(world.random.uniform(0.01, 0.1))


async def posts(world, name):
    person = Person(world, name)
    if not await person.until_signed_in():
        return
    while not world.stop.is_set():
        number = world.id()
        target = f"/form/{number}"
        world.journal.posts[number] = (name, None)
        done = await person.proved("post", "POST", target, f"id={number}&text=hello".encode())
        world.journal.posts[number] = (name, done)
        await world.pause(world.random.uniform(0.02, 0.2))


async def uploads(world, name):
    person = Person(world, name)
    if not await person.until_signed_in():
        return
    while not world.stop.is_set():
        body = os.urandom(1024) * world.random.randint(100, 2000)
        await person.proved("upload", "POST", f"/upload/{world.id()}", body)
        await world.pause(0.5)


async def slow_downloads(world, name):
    """Four MiB at about one a second, through a window as small as that of a bad line."""
    person = Person(world, name)
    person.connection = Connection(world.port, limit=16 * 1024)
    if not await person.until_signed_in():
        return
    size = 4 << 20
    while not world.stop.is_set():
        target, pieces = f"/get/{size}/{world.id()}", []

        async def slowly(piece, pieces=pieces):
            pieces.append(piece)
            await asyncio.sleep(len(piece) / (1 << 20))

        began, answer = await person.ask("download", "GET", target, each=slowly)
        if answer is None:
            await world.pause(0.5)
            continue
        right = b"".join(pieces) == proof.answer("GET", target, name, proof.digest(b""), size)
        enter = world.journal.enter if right else world.journal.wrong
        enter("download", name, target, began, "ok" if right else "answer")


async def event_streams(world, name):
    person = Person(world, name)
    if not await person.until_signed_in():
        return
    while not world.stop.is_set():
        target = f"/events/20/{world.id()}"
        began, answer = await person.ask("events", "GET", target)
        if answer is None:
            await world.pause(0.5)
            continue
        due = "".join(f"data: {proof.event(target, name, number)}\n\n" for number in range(20)).encode()
        if answer.body == due:
            world.journal.enter("events", name, target, began, "ok")
        else:
            world.journal.wrong("events", name, target, began, f"{answer.body[:100]!r}")


async def sockets(world, name):
    person = Person(world, name)
    if not await person.until_signed_in():
        return
    while not world.stop.is_set():
        await one_socket(person, until=world.stop.is_set)
        await world.pause(0.3)


async def one_socket(person, until):
    """Messages until somebody ends it; how it ended: `ours`, `closed` by a close frame, or `broken`."""
    world, name = person.world, person.name
    target, connection, began = f"/socket/{world.id()}", Connection(world.port), time.monotonic()
    headers = {"Host": DESK, "Origin": f"http://{DESK}", "Upgrade": "websocket", "Connection": "Upgrade",
               "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
               "Cookie": person.jar.line(DESK)}  # fmt: skip
    kept, person.connection = person.connection, connection
    try:
        began, answer = await person.ask("socket", "GET", target, headers, statuses=(101,))
    finally:
        person.connection = kept
    if answer is None:
        return "broken"
    try:
        while not until():
            began, text = time.monotonic(), world.id()
            connection.writer.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode())
            await connection.writer.drain()
            first, length = await asyncio.wait_for(connection.reader.readexactly(2), TIMEOUT)
            said = await connection.reader.readexactly(length & 0x7F)
            if first & 0x0F == 8:
                world.journal.enter("socket", name, target, began, "closed")
                return "closed"
            if said.decode("latin-1") != proof.message(target, name, text):
                world.journal.wrong("socket", name, target, began, f"{said[:80]!r}")
                return "broken"
            world.journal.enter("socket", name, target, began, "ok")
            await asyncio.sleep(0.1)
        return "ours"
    except (ConnectionError, asyncio.IncompleteReadError):
        world.journal.enter("socket", name, target, began, "broken")
        return "broken"
    except asyncio.TimeoutError:
        world.journal.enter("socket", name, target, began, "timeout")
        return "broken"
    finally:
        connection.close()


async def strangers(world, name):
    """Asks for what is not theirs: without a cookie, with a made-up one, with the rights of somebody else."""
    nobody, person = Person(world, None), Person(world, name)
    if not await person.until_signed_in():
        return
    made_up = f"{SESSION}=eyJhbGciOiJIUzI1NiJ9.e30.AAAA"
    while not world.stop.is_set():
        target = f"/get/10/{world.id()}"
        headers = {"Host": DESK, "Accept": "*/*", "User-Agent": "endure"}
        claims = {"Remote-User": "person0", "X-Forwarded-User": "person0"}
        tries = [(nobody, "no cookie", headers | claims, (302, 303, 401)),
                 (nobody, "made up", headers | {"Cookie": made_up}, (400,)),
                 (person, "not for them", headers | {"Cookie": person.jar.line(DESK)}, (403, 404))]  # fmt: skip
        for who, what, fields, due in tries:
            where = f"/boss{target}" if what == "not for them" else target
            began, answer = await who.ask("stranger", "GET", where, fields, host=DESK, statuses=(200, *due))
            if answer is not None and answer.status == 200:
                world.journal.wrong("stranger", who.name or NOBODY, where, began, what)
            elif answer is not None:
                world.journal.enter("stranger", who.name or NOBODY, where, began, "ok")
        await world.pause(0.3)


async def comes_and_goes(world, name):
    """Signs in, reads, signs out, and shows the old cookie again."""
    person = Person(world, name)
    while await person.until_signed_in():
        for _ in range(5):
            await person.proved("get", "GET", f"/get/100/{world.id()}", size=100)
            await world.pause(0.1)
        cookies = person.jar.line(DESK)
        for _ in range(20):
            if await person.sign_out():
                await person.is_nobody_now(cookies, time.monotonic(), "a sign-out")
                break
            await world.pause(0.5)
        await world.pause(0.5)


async def is_thrown_out(world, name, operator):
    """Their sessions are ended by the operator while a WebSocket of theirs is open."""
    person = Person(world, name)
    while await person.until_signed_in():
        over = []
        socket = asyncio.ensure_future(one_socket(person, until=lambda over=over: bool(over)))
        await world.pause(3)
        began = time.monotonic()
        window = world.journal.window("session end", {"socket": ("closed", "broken")}, 2.0, who=name)
        done = await operator("session", "end", "--user", name)
        window.ended = time.monotonic()
        if done:
            world.journal.ends.append((name, began))
            await person.is_nobody_now(person.jar.line(DESK), window.ended, "session end")
            if not socket.done():
                world.journal.wrong("socket", name, "", began, "a WebSocket lives on after session end")
        over.append(True)
        await socket
        await world.pause(5)


async def watches(world):
    """The ops listener answers, whatever happens."""
    while not world.stop.is_set():
        for target in ("/livez", "/readyz"):
            connection, began = Connection(world.ops_port), time.monotonic()
            try:
                answer = await asyncio.wait_for(connection.send("GET", target, {"Host": "ops"}), TIMEOUT)
                good = answer.status == 200 or target == "/readyz" and answer.status == 503
                world.journal.enter("ops", NOBODY, target, began, "ok" if good else f"status {answer.status}")
            except Broken as why:
                world.journal.enter("ops", NOBODY, target, began, why.how)
            except asyncio.TimeoutError:
                world.journal.enter("ops", NOBODY, target, began, "timeout")
            finally:
                connection.close()
        await world.pause(0.2)


async def storm(world, crowd, seconds):
    """More sign-ins at once than the processors can hash passwords for."""
    until = time.monotonic() + seconds

    async def one(person):
        while time.monotonic() < until and not world.stop.is_set():
            await person.sign_in()

    await asyncio.gather(*map(one, crowd))
