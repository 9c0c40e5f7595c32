"""Programs that judge others by the standards, and were written by somebody else. What they say of
the whole gate, with the judges that are not run here, stands in docs/CONFORMANCE.md."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path

import pytest
from apps import free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

PUBLIC = {"allow": ["anyone"], "require": "none"}


@pytest.fixture(scope="module")
def echo():
    """A WebSocket server that says everything again."""

    def again(socket):
        with suppress(ConnectionClosed):
            for message in socket:
                socket.send(message)

    port = free_port()
    with serve(again, "127.0.0.1", port, max_size=1 << 26) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield port
        server.shutdown()


def test_sslscan_finds_only_tls_1_2_and_1_3_with_forward_secrecy(gate_for, echo, tmp_path):
    gate = gate_for([{"app": "any", "hosts": ["any"], "upstream": {"urls": [f"http://127.0.0.1:{echo}"]}}])
    report = tmp_path / "report.xml"
    scan = ["sslscan", "--no-colour", f"--xml={report}", f"--sni-name={gate.host('any').partition(':')[0]}"]
    subprocess.run([*scan, f"127.0.0.1:{gate.port}"], check=True, capture_output=True, timeout=60)
    found = ET.parse(report).getroot().find("ssltest")
    on = {p.get("type") + p.get("version") for p in found.iter("protocol") if p.get("enabled") == "1"}
    assert on == {"tls1.2", "tls1.3"}
    ciphers = {cipher.get("cipher") for cipher in found.iter("cipher")}
    assert len(ciphers) >= 5
    for cipher in ciphers:
        assert cipher.startswith(("TLS_", "ECDHE-")), cipher
        assert "GCM" in cipher or "CHACHA20" in cipher, cipher
    assert all(one.get("supported") == "0" for one in found.iter("compression"))
    assert [bleed for bleed in found.iter("heartbleed") if bleed.get("vulnerable") != "0"] == []


#: Without those that only take time: megabytes (9), and each message a thousand times packed (12, 13).
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.1.1"]


def test_autobahn_s_cases_see_no_difference_between_the_tunnel_and_the_app(gate_for, echo, tmp_path):
    upstream = {"urls": [f"http://127.0.0.1:{echo}"]}
    gate = gate_for([{"app": "echo", "hosts": ["localhost"], "upstream": upstream, **PUBLIC}], clear=True)

    def judged(address: str, folder: Path) -> dict[str, tuple[str, str]]:
        chosen = [word for case in CASES for word in ("-i", case)]
        command = [Path(sys.executable).with_name("kosoku"), "-p", "8", *chosen, "-o", folder, address]
        subprocess.run(command, capture_output=True, timeout=120)
        (agent,) = json.loads((folder / "index.json").read_text()).values()
        # Whether an echo of what came before a fault is out before the end is a race, which the
        # judge calls not strict and lets pass.
        passes = {"NON-STRICT": "OK"}
        return {
            case: (passes.get(verdict["behavior"], verdict["behavior"]), verdict["behaviorClose"])
            for case, verdict in agent.items()
        }

    direct = judged(f"127.0.0.1:{echo}", tmp_path / "direct")
    assert judged(gate.host("localhost"), tmp_path / "gate") == direct
    assert [verdict for verdict, _ in direct.values()].count("OK") > 200, "the judge judged"
