"""`prove --against` holds what a file says of an app's paths against what the app does with them."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from apps.path_readers import READERS
from gate import STEPGATE

EVERYBODY = {"allow": ["anyone"], "require": "none"}
NAMES = [reader.name for reader in READERS]


@pytest.fixture(scope="module")
def readers(home):
    with ThreadPoolExecutor() as pool:
        running = list(pool.map(lambda reader: reader(home / reader.name), READERS))
    yield {app.name: app for app in running}
    for app in running:
        app.stop()


def prove(home, app, forms: dict) -> tuple[int, dict]:
    """What the policy says of /admin/x, asked of the app itself."""
    rules = [{"name": "closed", "match": {"path": ["/admin/x", "/admin/x.php"]}, "deny": "Not you."}]
    settings = {
        "version": 1,
        "listen": [{"addr": "127.0.0.1:8080", "role": "proxy"}],
        "apps": [{"app": "app", "hosts": ["app.internal"], "upstream": {"urls": [app.url]}, "paths": forms, "rules": rules} | EVERYBODY],
    }
    file = home / f"prove-{app.name}.yaml"
    file.write_text(json.dumps(settings))
    words = [STEPGATE, "prove", "--against", "app", "--rate", "1000", "--json", "--config", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_s_path_3_what_a_file_says_truly_of_an_app_leaves_nothing_to_find(home, readers, name):
    app = readers[name]
    for forms in [{}] + [{"like": app.like}] * bool(app.like):
        code, told = prove(home, app, forms)
        pages = {page["page"]: page for page in told["pages"]}
        assert pages["/admin/x"]["told_apart"], told
        assert code == 0 and not told["holes"], (forms, told["holes"])


def test_an_app_that_is_said_to_be_of_another_kind_is_caught(home, readers):
    # Express takes letter case and a slash at the end for no difference; Tomcat cuts parameters.
    code, told = prove(home, readers["express"], {"like": "unix"})
    spelled = {hole["spelled"] for hole in told["holes"]}
    assert code == 1 and {"GET /ADMIN/x", "GET /admin/x/"} <= spelled, spelled
