"""HTTP/1.1 as a careful client speaks it: what was asked, what came back, and what is not known.

A connection that was kept and is closed before a byte of the answer came costs a GET a second try on a new one, as in
every browser (RFC 9112 section 9.3.1); a POST is never sent twice.
"""

import asyncio
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, __file__.rpartition("/endurance/")[0])
from lab import Form

SESSION = "__Host-Http-stepgate"


class Broken(Exception):
    """There is no whole answer, so nothing was acknowledged."""

    def __init__(self, how, fresh, got=0):
        super().__init__(how)
        self.how, self.fresh, self.got = how, fresh, got


class Answer:
    def __init__(self, status, fields, cookies):
        self.status, self.fields, self.cookies, self.body = status, fields, cookies, b""


class Connection:
    def __init__(self, port, limit=256 * 1024):
        self.port, self.limit, self.reader, self.writer, self.used = port, limit, None, None, 0

    async def open(self):
        try:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=self.limit)
        except ConnectionRefusedError as why:
            raise Broken("refused", True) from why
        self.used = 0

    def close(self):
        if self.writer:
            self.writer.transport.abort()
        self.reader = self.writer = None

    async def send(self, method, target, headers, body=b"", each=None):
        """The answer; `each` is awaited with each piece of its body, which is kept nowhere then."""
        if self.writer is None:
            await self.open()
        fresh, self.used = self.used == 0, self.used + 1
        if body or method == "POST":
            headers = headers | {"Content-Length": str(len(body))}
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        got = 0
        try:
            # An answer may come before all was sent (a refusal), and then nobody reads the rest.
            sending = asyncio.ensure_future(self._write(head.encode() + body))
            try:
                answer = await self._head()
                got = 1
                pieces = []
                async for piece in self._body(method, answer):
                    if each:
                        await each(piece)
                    else:
                        pieces.append(piece)
                answer.body = b"".join(pieces)
            finally:
                sending.cancel()
        except (ConnectionError, asyncio.IncompleteReadError, EOFError) as why:
            self.close()
            raise Broken(f"broken: {type(why).__name__}", fresh, got) from why
        except asyncio.CancelledError:
            self.close()
            raise
        if answer.status != 101 and answer.fields.get("connection", "").lower() == "close":
            self.close()
        return answer

    async def _write(self, data):
        try:
            self.writer.write(data)
            await self.writer.drain()
        except (ConnectionError, AttributeError):
            pass  # the reader says it too

    async def _head(self):
        while True:
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode("latin-1").split("\r\n")
            status = int(line.split(" ")[1])
            if status >= 200 or status == 101:
                break
        pairs = [(name.lower(), value.strip()) for name, _, value in (one.partition(":") for one in lines if one)]
        return Answer(status, dict(pairs), [value for name, value in pairs if name == "set-cookie"])

    async def _body(self, method, answer):
        if method == "HEAD" or answer.status in (101, 204, 304):
            return
        if answer.fields.get("transfer-encoding") == "chunked":
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readuntil(b"\r\n")
            return
        left = int(answer.fields.get("content-length", 0))
        while left:
            piece = await self.reader.read(min(left, 65536))
            if not piece:
                raise EOFError("the answer broke off")
            left -= len(piece)
            yield piece


class Jar(dict):
    """Cookies by host; all of them are host-only here."""

    def line(self, host):
        return "; ".join(f"{name}={value}" for name, value in self.get(host, {}).items())

    def take(self, host, answer):
        mine = self.setdefault(host, {})
        for line in answer.cookies:
            name, _, rest = line.partition("=")
            value = rest.split(";")[0]
            if not value or "max-age=0" in rest.lower():
                mine.pop(name, None)
            else:
                mine[name] = value

    def forget(self, name):
        """On every host. What says that this browser was here before stays, as in a browser."""
        for mine in self.values():
            mine.pop(name, None)


def page_headers(host, jar, agent):
    headers = {"Host": host, "Accept": "text/html", "User-Agent": agent}
    cookies = jar.line(host)
    return headers | ({"Cookie": cookies} if cookies else {})


def form_of(answer):
    form = Form(answer.body.decode())
    return form.action, form.fields
