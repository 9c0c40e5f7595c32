"""Back ends that read forms and documents each in their own ways. All answer one line: `delete` where any way in which
people write such an app finds that it is to delete, `view` where the plain way finds that it is to show, else `other`."""

from __future__ import annotations


from .node_services import _Node
from .path_readers import Reader


class Php(Reader):
    """The interpreter's own server. Loose comparison, `$_REQUEST`, and a body read by hand."""

    name = "php"
    source = r"""<?php
error_reporting(0);
header("Content-Type: text/plain");
$raw = file_get_contents("php://input");
$json = json_decode($raw, true);
parse_str($raw, $parsed);
function said($value) {
    if (is_array($value)) { foreach ($value as $one) { if (said($one)) return true; } return false; }
    return $value == "delete" || strcasecmp(trim((string) $value), "delete") == 0;
}
$ways = [$_POST["action"], $_REQUEST["action"], $_GET["action"], $parsed["action"]];
if (is_array($json)) {
    foreach ([$json, isset($json[0]) ? $json[0] : []] as $one) { if (is_array($one) && isset($one["action"])) $ways[] = $one["action"]; }
}
foreach ($ways as $way) { if (isset($way) && said($way)) { echo "delete"; exit; } }
echo ($_POST["action"] ?? $json["action"] ?? null) === "view" ? "view" : "other";
"""

    def command(self) -> list[str]:
        script = self.home / "index.php"
        script.write_text(self.source)
        return ["php", "-d", "always_populate_raw_post_data=-1", "-S", f"127.0.0.1:{self.port}", str(script)]

    def environment(self) -> dict[str, str]:
        return {"PHP_CLI_SERVER_WORKERS": "4"}


class Flask(Reader):
    """Werkzeug behind waitress: the form, `values` (the query first), and JSON whatever its type says."""

    name = "flask"
    source = """
import sys
from flask import Flask, request
from waitress import serve

app = Flask(__name__, static_folder=None)

@app.route("/", methods=["GET", "POST", "PUT"])
def answer():
    document = request.get_json(force=True, silent=True)
    ways = request.values.getlist("action") + request.form.getlist("action") + request.args.getlist("action")
    if isinstance(document, dict):
        ways.append(document.get("action"))
    if isinstance(document, list):
        ways += [one.get("action") for one in document if isinstance(one, dict)]
    flat = [each for way in ways for each in (way if isinstance(way, list) else [way])]
    if any(isinstance(way, str) and way.strip().lower() == "delete" for way in flat):
        return "delete"
    plain = request.form.get("action") or (document.get("action") if isinstance(document, dict) else None)
    return "view" if plain == "view" else "other"

serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=16, _quiet=True)
"""


class Django(Reader):
    """Django behind gunicorn; its forms obey the charset that their type names."""

    name = "django"
    source = """
import json
import sys
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path
from gunicorn.app.base import BaseApplication

def answer(request):
    body = request.body
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    ways = request.POST.getlist("action") + request.GET.getlist("action")
    if isinstance(document, dict):
        ways.append(document.get("action"))
    if isinstance(document, list):
        ways += [one.get("action") for one in document if isinstance(one, dict)]
    flat = [each for way in ways for each in (way if isinstance(way, list) else [way])]
    if any(isinstance(way, str) and way.strip().lower() == "delete" for way in flat):
        return HttpResponse("delete", content_type="text/plain")
    plain = request.POST.get("action") or (document.get("action") if isinstance(document, dict) else None)
    return HttpResponse("view" if plain == "view" else "other", content_type="text/plain")

urlpatterns = [re_path("", answer)]
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", USE_I18N=False)

class Server(BaseApplication):
    def load_config(self):
        for name, value in {"bind": f"127.0.0.1:{sys.argv[1]}", "worker_class": "gthread", "threads": 16, "loglevel": "error"}.items():
            self.cfg.set(name, value)
    def load(self): return get_wsgi_application()

Server().run()
"""


class Express(_Node):
    """`qs` for forms, which makes objects and lists of names, and a parser that unpacks what is packed."""

    name = "express"
    gate = {}
    script = """
const express = require("express");
const app = express();
app.use(express.json({ strict: false }), express.urlencoded({ extended: true }), express.text({ type: () => true }));
const flat = (value) => value && typeof value === "object" ? Object.values(value).flatMap(flat) : [value];
app.use((request, response) => {
  let body = request.body;
  if (typeof body === "string") { try { body = JSON.parse(body); } catch {} }
  const of = (from) => Object.entries(from && typeof from === "object" ? from : {}).filter(([name]) => name === "action").flatMap(([, value]) => flat(value));
  const ways = [...of(body), ...of(request.query), ...(Array.isArray(body) ? body.flatMap(of) : [])];
  response.type("text");
  if (ways.some((way) => typeof way === "string" && way.trim().toLowerCase() === "delete")) return response.send("delete");
  response.send(body && body.action === "view" ? "view" : "other");
});
app.use((error, request, response, next) => response.status(400).type("text").send("other"));
app.listen(Number(process.env.PORT), "127.0.0.1");
"""


FORM_READERS = [Php, Flask, Django, Express]
