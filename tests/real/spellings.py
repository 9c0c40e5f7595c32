"""Ways to spell /admin/x, and a client that sends them as they are."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "corpus/paths.txt"

#: Put before or behind a segment; most come from a hole that some server had.
ENDS = """
%20 %20%20 + %2b %c2%a0 %e3%80%80 %e2%80%8b %ef%bb%bf %e1%a0%8e %c2%ad %09 %0a %0d %0b %00 %7f %c2%85 %a0
. .. ... %2e %2e%2e %ef%bc%8e %e2%80%a4 .%20 %20. ; ;a=b ;a=b;c ;/ %3b %3ba=b : :a ::$DATA %3a ~ ~1 %7e
* %2a ' %27 " %22 < > | %7c ^ ` { } [ ] [] ( ) @ %40 = & %26 , ! $ %24 \\ %5c %5c/ / // /./ /%2e/ %2f %252f %c0%af
%ef%bc%8f %e2%88%95 ? %3f # %23 %25 % %2 %zz %u002f - _ .json .html .php .PHP .php. .php%20 .php/ .jsp .css %2ejson
""".split()
#: Put before the whole path.
STARTS = """
/index.php /INDEX.PHP /index.php%20 /index.php. /index.php; /index.ph%70 /index.php%2f /static/.. /static/..; /static;/..
/static/%2e%2e /static/.%2e /static/..%2f.. /static%2f.. /static/..%5c /static/%20.. /. /.. /a/.. /; /;a /%2f /%5c /\\ // / /%20
/%ef%bc%8f http:// http://other.example http:/ /http:/ /admin.php /admin/index.php /admin/.. /static /%00 /%0a /* /~ /@ /?
""".split()
#: Put behind the whole path.
TAILS = """
/ // /// /. /.. /./ /%2e /x.css /x.php /%20 /+ /; ;/ ;.css ;.php /;.css %3b.css ?.css ?/static/ #.css %23.css %3f.css .css .json
.JSON .json/ .php .php/ .php/x.css .phtml .php5 .php~ .php.bak .PhP %2ephp %00.css %0a.css %0a %0d%0a .a.b.c /.json /.css/ :80 /*
/index.php /index.html /.. /../x /..;/x /x/.. ,a !a $ /~ %20.json .json%20 %20/ %20%20 /%c2%a0 //x /x// %2f %2f/ %5c
""".split()


def _letters(segment: str) -> Iterator[str]:
    first, rest = segment[0], segment[1:]
    code = ord(first)
    yield f"%{code:02x}{rest}"
    yield f"%{code:02X}{rest}"
    yield "".join(f"%{ord(letter):02x}" for letter in segment)
    yield segment.upper()
    yield segment.title()
    yield f"%{ord(first.upper()):02x}{rest}"
    yield f"%25{code:02x}{rest}"
    yield f"%u00{code:02x}{rest}"
    yield f"%{0xc1:02x}%{0x80 | (code & 0x3f):02x}{rest}"
    # Letters that case folding or compatibility turns into ours: fullwidth, dotless i, small capital.
    yield "".join(f"%ef%bd%{0x80 + ord(letter) - 0x60:02x}" for letter in segment)
    yield segment.replace("i", "%c4%b1")
    yield segment.replace("i", "%c4%b0")
    yield segment.replace("a", "%c3%a1")
    yield f"{first}%cc%81{rest}"


def spellings() -> dict[str, list[Callable[[str], str]]]:
    """What may be done to one of the two segments, and to the whole."""
    whole: list[Callable[[str], str]] = [lambda path, end=end: path + end for end in TAILS]
    whole += [lambda path, start=start: start + path for start in STARTS]
    segment: list[Callable[[str], str]] = [lambda text, end=end: text + end for end in ENDS]
    segment += [lambda text, end=end: end + text for end in ENDS]
    segment += [lambda text, n=n: list(_letters(text))[n] for n in range(len(list(_letters("ad"))))]
    return {"segment": segment, "whole": whole}


def single(base: str = "/admin/x") -> list[str]:
    ways = spellings()
    first, second = base[1:].split("/")
    out = [base] + [way(base) for way in ways["whole"]]
    out += [f"/{way(first)}/{second}" for way in ways["segment"]]
    out += [f"/{first}/{way(second)}" for way in ways["segment"]]
    return out


def corpus() -> list[bytes]:
    """The spellings of tests/corpus/paths.txt, for whatever forms they stand there."""
    lines = [line for line in CORPUS.read_text().splitlines() if line and not line.startswith("#")]
    found = [(line.split(None, 2) + ["", ""])[2] for line in lines]
    return [re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode()) for text in found]


class Wire:
    """Sends request lines as they are given, one connection after the other."""

    def __init__(self, port: int, host: str) -> None:
        self.port, self.host = port, host
        self.socket: socket.socket | None = None
        self.read = b""

    def get(self, target: bytes, fields: bytes = b"") -> tuple[int, bytes]:
        request = b"GET " + target + b" HTTP/1.1\r\nHost: " + self.host.encode() + b"\r\n" + fields + b"\r\n"
        fresh = self.socket is None
        if fresh:
            self.socket = socket.create_connection(("127.0.0.1", self.port), 30)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.read = b""
        try:
            self.socket.sendall(request)
            return self._answer()
        except (ConnectionError, EOFError):
            self.close()
            if fresh:
                return 0, b""
            # It had been closed since the last answer.
            return self.get(target, fields)

    def _answer(self) -> tuple[int, bytes]:
        while (end := self.read.find(b"\r\n\r\n")) < 0:
            self._more()
        head, self.read = self.read[: end + 2].lower(), self.read[end + 4 :]
        status = int(head[9:12])
        length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head)
        if length:
            body = self._take(int(length[1]))
        elif b"\r\ntransfer-encoding: chunked\r\n" in head:
            body = b""
            while piece := self._take(int(self._line(), 16)):
                body += piece
                self._line()
            self._line()
        else:
            raise AssertionError(f"an answer without an end: {head}")
        if b"\r\nconnection: close\r\n" in head:
            self.close()
        return status, body

    def _line(self) -> bytes:
        while (end := self.read.find(b"\r\n")) < 0:
            self._more()
        line, self.read = self.read[:end], self.read[end + 2 :]
        return line

    def _take(self, length: int) -> bytes:
        while len(self.read) < length:
            self._more()
        data, self.read = self.read[:length], self.read[length:]
        return data

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.read += data

    def close(self) -> None:
        if self.socket:
            self.socket.close()
            self.socket = None
