"""What stands in the packaging for people to copy is good as it stands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml
from gate import STEPGATE, make_certificate

ROOT = Path(__file__).parents[2]


def test_the_configuration_in_the_compose_file_passes_check(tmp_path):
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    text = compose["configs"]["stepgate"]["content"]
    make_certificate(tmp_path / "tls", ["login.localhost", "app.localhost"])
    (tmp_path / "database_url").write_text("postgres://stepgate:x@database/stepgate")
    for inside, here in {
        "/etc/stepgate/tls": tmp_path / "tls",
        "/run/secrets/database_url": tmp_path / "database_url",
        "/var/lib/stepgate": tmp_path / "state",
    }.items():
        assert inside in text
        text = text.replace(inside, str(here))
    (tmp_path / "stepgate.yaml").write_text(text)
    checked = subprocess.run(
        [STEPGATE, "check", "--config", str(tmp_path / "stepgate.yaml")], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
