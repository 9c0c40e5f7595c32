"""socket.io and tus behind the gate, each asked by its own client."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from apps import CACHE
from apps.node_services import SocketIo, Tus

#: Node asks the resolver of the system, which knows no `*.localhost`.
LOOPBACK = """
const dns = require("dns");
dns.lookup = (name, options, answer) => {
    const done = answer ?? options;
    options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
};
const { at, cookie, transports } = JSON.parse(process.env.ASKED);
"""

TALK = LOOPBACK + """
const { io } = require("socket.io-client");
const extraHeaders = { Cookie: cookie, Origin: at };
const socket = io(at, { transports, extraHeaders, reconnection: false });
const end = (what) => { console.log(JSON.stringify(what)); socket.close(); };
socket.on("connect_error", (error) => end({ error: error.message }));
socket.on("who", (who) => {
    const say = () => socket.emit("say", "été 日本 ".repeat(20000), Buffer.from([1, 2, 3]), (heard) => {
        end({ who, heard, by: socket.io.engine.transport.name });
    });
    const polls = transports[0] === "polling" && transports.length === 2 && socket.io.engine.transport.name === "polling";
    polls ? socket.io.engine.once("upgrade", say) : say();
});
"""

UPLOAD = LOOPBACK + """
const tus = require("tus-js-client");
const content = Buffer.alloc(9_000_000, "harbour ");
let broken = false;
const upload = new tus.Upload(content, {
    endpoint: at + "/files", uploadSize: content.length, chunkSize: 2_000_000, headers: { Cookie: cookie },
    metadata: { filename: "été.bin" }, retryDelays: null,
    onError: (error) => console.log(JSON.stringify({ error: error.message })),
    onSuccess: () => console.log(JSON.stringify({ at: upload.url, broken })),
    onChunkComplete: (size, sent) => {
        // Goes away in the middle, and comes back.
        if (!broken && sent > 3_000_000) { broken = true; upload.abort().then(() => upload.start()); }
    },
});
upload.start();
"""


@pytest.fixture(scope="module")
def talk(home):
    app = SocketIo(home / "talk")
    yield app
    app.stop()


@pytest.fixture(scope="module")
def uploads(home):
    app = Tus(home / "tus")
    yield app
    app.stop()


@pytest.fixture(scope="module")
def gate(gate_for, talk, uploads):
    return gate_for(
        [
            {"app": "talk", "hosts": ["talk"], "upstream": {"urls": [talk.url]}, **talk.gate},
            {"app": "uploads", "hosts": ["uploads"], "upstream": {"urls": [uploads.url]}, **uploads.gate},
        ]
    )


def asked(gate, script: str, name: str, cookie: str, **more) -> dict:
    done = subprocess.run(
        ["node", "-e", script],
        env=os.environ
        | {"NODE_EXTRA_CA_CERTS": str(gate.ca), "NODE_PATH": str(CACHE / "node/node_modules")}
        | {"ASKED": json.dumps({"at": gate.url(name, ""), "cookie": cookie, **more})},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]])
def test_socket_io_polls_upgrades_and_knows_who_talks(gate, person_of, transports):
    ann = person_of(gate)
    ann.sign_in(gate.url("talk"))
    told = asked(gate, TALK, "talk", ann.cookies(gate.host("talk")), transports=transports)
    assert told == {"who": ann.account.name, "heard": 140000, "by": transports[-1]}


@pytest.mark.parametrize("transports", [["polling"], ["websocket"]])
def test_nobody_talks_without_a_session(gate, transports):
    assert "error" in asked(gate, TALK, "talk", "", transports=transports)


def test_an_upload_that_broke_off_goes_on_at_its_public_address(gate, uploads, person_of):
    ann = person_of(gate)
    ann.answer(ann.visit(gate.url("uploads", "/files/")))
    told = asked(gate, UPLOAD, "uploads", ann.cookies(gate.host("uploads")))
    assert told.get("broken") is True, told
    assert told["at"].startswith(gate.url("uploads", "/files/")), "`Location` led back through the gate"
    kept = uploads.home / "uploads" / told["at"].rpartition("/")[2]
    assert kept.read_bytes() == b"harbour " * (9_000_000 // 8)
