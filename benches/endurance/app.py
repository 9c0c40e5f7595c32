"""The app behind the gate in benches/endure: proves with each answer what it received, and writes down what must
arrive once only.

    app.py PORT ARRIVALS

    /get/SIZE/ID        an answer with SIZE bytes behind its proof
    /wait/MS/ID         the same, after a while
    /form/ID            POST: the id is in ARRIVALS before it is answered
    /upload/ID          any body
    /events/N/ID        N server-sent events, five a second
    /socket/ID          a WebSocket that proves each message

SIGUSR1: for two seconds each answer is cut off, by a reset in its middle or before its first byte.
"""

import asyncio
import base64
import hashlib
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
import proof

PIECE = 64 * 1024


class App:
    def __init__(self, arrivals):
        # One write for each line, appended: whole even when the app is killed in the middle of its work.
        self.arrivals = os.open(arrivals, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.broken_until, self.turn = 0.0, 0

    def breaks(self):
        self.broken_until = time.monotonic() + 2

    async def connection(self, reader, writer):
        try:
            while await self.request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def request(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields if f)}
        who = fields.get("remote-user", "-")
        kind, *words = target.strip("/").split("/")
        if kind == "socket":
            return await self.socket(reader, writer, target, who, fields)
        body = hashlib.sha256()
        async for piece in self.body(reader, fields):
            body.update(piece)
        if kind == "form":
            os.write(self.arrivals, f"{words[-1]} {who} {method}\n".encode())
        if kind == "events":
            return await self.events(writer, target, who, int(words[0]))
        if kind == "wait":
            await asyncio.sleep(int(words[0]) / 1000)
        size = int(words[0]) if kind == "get" else 200
        text = proof.answer(method, target, who, body.hexdigest(), size)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(text)}\r\n\r\n"
        if time.monotonic() < self.broken_until:
            self.turn += 1
            if self.turn % 2:
                writer.write(head.encode() + text[: len(text) // 2])
                await writer.drain()
            return False
        writer.write(head.encode())
        for at in range(0, len(text), PIECE):
            writer.write(text[at : at + PIECE])
            await writer.drain()
        return True

    async def body(self, reader, fields):
        if fields.get("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                yield await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readuntil(b"\r\n")
            return
        left = int(fields.get("content-length", 0))
        while left:
            piece = await reader.read(min(left, PIECE))
            if not piece:
                raise ConnectionError("the body broke off")
            left -= len(piece)
            yield piece

    async def events(self, writer, target, who, count):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(count):
            data = f"data: {proof.event(target, who, number)}\n\n".encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.2)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def socket(self, reader, writer, target, who, fields):
        key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())  # fmt: skip
        while True:
            first, length = await reader.readexactly(2)
            mask = await reader.readexactly(4)
            text = bytes(b ^ mask[at % 4] for at, b in enumerate(await reader.readexactly(length & 0x7F)))
            if first & 0x0F == 8:
                return False
            said = proof.message(target, who, text.decode()).encode()
            writer.write(bytes([0x81, len(said)]) + said)
            await writer.drain()


async def main():
    app = App(sys.argv[2])
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, app.breaks)
    server = await asyncio.start_server(app.connection, "127.0.0.1", int(sys.argv[1]), backlog=4096, limit=256 * 1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
