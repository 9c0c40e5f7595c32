"""Node-RED behind the gate: a deploy over REST, and its results over the `/comms` WebSocket."""

from __future__ import annotations

import json
import time

import pytest
from apps.node_red import NodeRed
from websockets.sync.client import connect

API = {"Node-RED-API-Version": "v2"}
FLOW = [
    {"id": "tab", "type": "tab", "label": "Harbour"},
    {"id": "start", "type": "inject", "z": "tab", "name": "", "props": [{"p": "payload"}], "payload": "ahoy",
     "payloadType": "str", "repeat": "", "once": False, "topic": "", "x": 100, "y": 100, "wires": [["see"]]},
    {"id": "see", "type": "debug", "z": "tab", "name": "", "active": True, "tosidebar": True, "console": False,
     "tostatus": False, "complete": "payload", "targetType": "msg", "x": 300, "y": 100, "wires": []},
]  # fmt: skip


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = NodeRed(home / "app")
    yield gate_for([{"app": "flows", "hosts": ["flows"], "upstream": {"urls": [app.url]}, **app.gate}])
    app.stop()


def test_node_red_takes_the_user_from_the_gate(gate, person_of):
    ann = person_of(gate)
    page = ann.sign_in(gate.url("flows"))
    assert "Node-RED" in page.text
    assert ann.http.get(gate.url("flows", "/settings")).json()["user"]["username"] == ann.account.name


def test_a_flow_is_deployed_run_and_seen(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("flows"))
    revision = ann.http.get(gate.url("flows", "/flows"), headers=API).json()["rev"]
    deployed = ann.http.post(
        gate.url("flows", "/flows"),
        json={"flows": FLOW, "rev": revision},
        headers=API | {"Node-RED-Deployment-Type": "full"},
    )
    assert deployed.status_code == 200, deployed.text
    with connect(
        f"wss://{gate.host('flows')}/comms",
        ssl=gate.tls,
        additional_headers={"Cookie": ann.cookies(gate.host("flows"))},
        origin=gate.url("flows", ""),
    ) as comms:
        # No `auth` packet: the editor is known by the header that the gate put into the handshake.
        comms.send(json.dumps({"subscribe": "debug"}))
        time.sleep(0.5)  # The subscription has no answer to wait for.
        assert ann.http.post(gate.url("flows", "/inject/start")).status_code == 200
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for message in json.loads(comms.recv(timeout=20)):
                if message.get("topic") == "debug":
                    assert message["data"]["msg"] == "ahoy"
                    return
    raise AssertionError("the debug message did not come")
