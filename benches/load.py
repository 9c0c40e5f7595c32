"""The loads that wrk and h2load cannot make, and the app's end of a WebSocket. One JSON line at the end.

    load.py echo PORT                    answers every upgrade with 101, then sends back what it gets
    load.py handshakes ORDER             a TLS connection for each request, full or resumed
    load.py websocket ORDER              messages there and back on connections that stay
    load.py idle ORDER                   opens connections, one request on each, then waits for a line on stdin
    load.py sign-ins ORDER               people who come with a password

ORDER is JSON; benches/compare writes it. CPU of these programs is never counted, only the proxy's.
"""

import json
import os
import selectors
import socket
import ssl
import sys
import threading
import time

sys.dont_write_bytecode = True
from lab import PASSWORD, PASSWORD_HOST, Browser, request_head


def tls_context():
    """Nobody's certificate is checked: that cost is the client's, and not what is measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def answer(connection):
    """Reads one answer with a Content-Length; anything but a 200 ends the run."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65536)
        if not piece:
            sys.exit(f"closed after {got[:300]!r}")
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"not a 200: {head[:300]!r}")
    length = int(head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


def echo(port):
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=4096)
    events, open_already = selectors.EpollSelector(), set()
    events.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                events.register(client, selectors.EVENT_READ)
                continue
            client = key.fileobj
            try:
                data = client.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                events.unregister(client)
                open_already.discard(client)
                client.close()
            elif client in open_already:
                client.sendall(data)
            else:
                # The answer that belongs to the key of RFC 6455 section 1.3, which `websocket` sends.
                client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")  # fmt: skip
                open_already.add(client)


def numbers(times, seconds, **more):
    times.sort()
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1e6
    return {"count": len(times), "seconds": seconds, "p50": at(0.5), "p99": at(0.99)} | more


def spread(workers, one):
    """Runs `one` in as many processes and joins the times that they bring."""
    pipes = []
    for _ in range(workers):
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                os.close(reader)
                with os.fdopen(writer, "w") as out:
                    json.dump(one(), out)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writer)
        pipes.append(reader)
    try:
        found = [json.load(os.fdopen(reader)) for reader in pipes]
    except ValueError:
        sys.exit("a worker ended without a result")
    return [time for times in found for time in times]


def handshakes(order):
    context, head = tls_context(), request_head(order["path"], order["headers"])

    def once(session=None):
        plain = socket.create_connection(("127.0.0.1", order["port"]))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="app.test", session=session) as connection:
            if (session is not None) != connection.session_reused:
                sys.exit(f"resumed: {connection.session_reused}, wanted {session is not None}")
            connection.sendall(head)
            answer(connection)
            # The ticket came with the answer. A new one each time, as browsers do (RFC 8446 C.4).
            return connection.session if order["resume"] else None

    def worker():
        times, session = [], None
        if order["resume"]:
            session = once()
        end = time.monotonic() + order["seconds"]
        while (began := time.monotonic()) < end:
            session = once(session)
            times.append(time.monotonic() - began)
        return times

    return numbers(spread(order["connections"], worker), order["seconds"])


def websocket(order):
    headers = order["headers"] | {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Origin": "http://app.test",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Fetch-Mode": "websocket", "Sec-Fetch-Dest": "websocket",
    }  # fmt: skip
    head = request_head(order["path"], headers)
    # A masked text frame of 128 bytes; the mask is zero, and nobody on the way reads it.
    frame = bytes([0x81, 0xFE, 0, 128, 0, 0, 0, 0]) + b"m" * 128
    events = selectors.EpollSelector()
    for _ in range(order["connections"]):
        client = socket.create_connection(("127.0.0.1", order["port"]))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(head)
        got = b""
        while b"\r\n\r\n" not in got:
            got += client.recv(65536) or sys.exit(f"closed after {got[:300]!r}")
        if not got.startswith(b"HTTP/1.1 101"):
            sys.exit(f"no WebSocket: {got[:300]!r}")
        events.register(client, selectors.EVENT_READ, [0, 0.0])
    times, end = [], time.monotonic() + order["seconds"]
    for key in list(events.get_map().values()):
        key.data[1] = time.monotonic()
        key.fileobj.sendall(frame)
    while (now := time.monotonic()) < end:
        for key, _ in events.select(1):
            piece = key.fileobj.recv(65536)
            if not piece:
                sys.exit("a WebSocket was closed")
            key.data[0] += len(piece)
            if key.data[0] >= len(frame):
                now = time.monotonic()
                times.append(now - key.data[1])
                key.data[:] = [0, now]
                key.fileobj.sendall(frame)
    return numbers(times, order["seconds"])


def idle(order):
    context, head = tls_context() if order["tls"] else None, request_head(order["path"], order["headers"])
    kept = []
    for _ in range(order["connections"]):
        connection = socket.create_connection(("127.0.0.1", order["port"]))
        if context:
            connection = context.wrap_socket(connection, server_hostname="app.test")
        connection.sendall(head)
        answer(connection)
        kept.append(connection)
    print(json.dumps({"count": len(kept)}), flush=True)
    sys.stdin.readline()
    # Those that the proxy closed meanwhile are not idle connections any more.
    closed = 0
    for connection in kept:
        plain = socket.socket(fileno=os.dup(connection.fileno()))
        plain.setblocking(False)
        try:
            closed += not plain.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            pass
        plain.close()
    return {"closed": closed}


def sign_ins(order):
    """Each with its own account and an empty jar: the app, the form, the password, the way back to the app."""
    times, lock, faults = [], threading.Lock(), []
    end = time.monotonic() + order["seconds"]

    def person(name):
        while (began := time.monotonic()) < end and not faults:
            browser = Browser(order["port"])
            page = browser.ask("GET", f"http://{PASSWORD_HOST}{order['path']}")
            url, status, text = browser.submit(page, username=name, password=PASSWORD)
            with lock:
                if status != 200 or PASSWORD_HOST not in url:
                    faults.append(f"{name}: {status} at {url}: {text[:300]}")
                times.append(time.monotonic() - began)

    threads = [threading.Thread(target=person, args=(name,)) for name in order["people"]]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        sys.exit(faults[0])
    return numbers(times, time.monotonic() - began)


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo(sys.argv[2])
    kind = {"handshakes": handshakes, "websocket": websocket, "idle": idle, "sign-ins": sign_ins}[sys.argv[1]]
    print(json.dumps(kind(json.loads(sys.argv[2]))), flush=True)
