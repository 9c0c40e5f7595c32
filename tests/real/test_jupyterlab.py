"""JupyterLab behind the gate: a kernel that runs over a WebSocket."""

from __future__ import annotations

import json
import time
import uuid

import pytest
from apps.jupyterlab import JupyterLab
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = JupyterLab(home / "app")
    yield gate_for([{"app": "lab", "hosts": ["lab"], "upstream": {"urls": [app.url]}, **app.gate}])
    app.stop()


def headers(person, gate):
    """JupyterLab's own guard against forged requests, as its script sends it."""
    return {"X-XSRFToken": person.http.cookies.get("_xsrf", ""), "Origin": gate.url("lab", "")}


def start_kernel(person, gate) -> str:
    answer = person.http.post(gate.url("lab", "/api/kernels"), json={"name": "python3"}, headers=headers(person, gate))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def socket_of(person, gate, kernel: str):
    return connect(
        f"wss://{gate.host('lab')}/api/kernels/{kernel}/channels",
        ssl=gate.tls,
        additional_headers={"Cookie": person.cookies(gate.host("lab"))},
        origin=gate.url("lab", ""),
        max_size=None,
        # JupyterLab answers once its kernel has started: on a busy machine that is longer than the client's own 10 s.
        open_timeout=120,
    )


def run(socket, code: str) -> str:
    """Sends one cell and gathers what it prints, until the kernel is idle again."""
    message = {
        "header": {"msg_id": uuid.uuid4().hex, "username": "", "session": uuid.uuid4().hex,
                   "msg_type": "execute_request", "version": "5.3"},
        "parent_header": {}, "metadata": {}, "channel": "shell",
        "content": {"code": code, "silent": False, "store_history": False, "user_expressions": {},
                    "allow_stdin": False, "stop_on_error": True},
    }  # fmt: skip
    socket.send(json.dumps(message))
    printed, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        got = json.loads(socket.recv(timeout=60))
        if got["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        if got["msg_type"] == "stream":
            printed += got["content"]["text"]
        if got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
            return printed
    raise AssertionError("the cell did not end")


def test_jupyterlab_knows_who_signed_in(gate, person_of):
    ann = person_of(gate, display="Ann Archer")
    page = ann.sign_in(gate.url("lab", "/lab"))
    assert "JupyterLab" in page.text
    me = ann.http.get(gate.url("lab", "/api/me")).json()["identity"]
    assert (me["username"], me["name"]) == (ann.account.name, "Ann Archer")


def test_a_cell_runs_and_its_result_comes_back(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("lab", "/lab"))
    kernel = start_kernel(ann, gate)
    with socket_of(ann, gate, kernel) as socket:
        assert run(socket, "print(6 * 7)") == "42\n"
        assert len(run(socket, "print('x' * 500_000)")) == 500_001, "long messages pass whole"
    ann.http.delete(gate.url("lab", f"/api/kernels/{kernel}"), headers=headers(ann, gate))


def test_a_notebook_is_written_through_the_gate(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("lab", "/lab"))
    path = gate.url("lab", "/api/contents/Ann%20%26%20friends%20%C3%A9t%C3%A9.txt")
    put = ann.http.put(path, json={"type": "file", "format": "text", "content": "hello"}, headers=headers(ann, gate))
    assert put.status_code == 201, put.text
    got = ann.http.get(path).json()
    assert (got["name"], got["content"]) == ("Ann & friends été.txt", "hello")


def test_signing_out_cuts_the_kernel_s_socket(gate, person_of):
    """S-SESS-3: the end of a session reaches what is already open, within a second."""
    ann = person_of(gate)
    ann.sign_in(gate.url("lab", "/lab"))
    kernel = start_kernel(ann, gate)
    with socket_of(ann, gate, kernel) as socket:
        assert run(socket, "print(1)") == "1\n"
        gate.run("session", "end", "--user", ann.account.name)
        with pytest.raises(ConnectionClosed):
            for _ in range(100):
                socket.recv(timeout=5)
    with pytest.raises(InvalidStatus) as refused, socket_of(ann, gate, kernel):
        pass
    assert refused.value.response.status_code == 401


def test_a_socket_from_a_foreign_page_is_refused(gate, person_of):
    ann = person_of(gate)
    ann.sign_in(gate.url("lab", "/lab"))
    kernel = start_kernel(ann, gate)
    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"wss://{gate.host('lab')}/api/kernels/{kernel}/channels",
            ssl=gate.tls,
            additional_headers={"Cookie": ann.cookies(gate.host("lab"))},
            origin="https://evil.example",
        )
    assert refused.value.response.status_code in (401, 403)
