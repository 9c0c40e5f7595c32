"""Back ends that read paths each in their own way. All answer two lines: which handler ran
(`protected` for /admin/x and the script /admin/x.php, else `other`), and the target they were sent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from . import App, free_port
from .apache import Apache
from .node_services import _Node


class Reader(App):
    #: What its admin may truly say under `paths: { like: }`, besides nothing.
    like: str | None = None
    source = ""

    def command(self) -> list[str]:
        script = self.home / f"{self.name}_app.py"
        script.write_text(self.source)
        return [sys.executable, str(script), str(self.port)]


class Wsgi(Reader):
    """The library's own server, and an app that compares PATH_INFO."""

    name = "wsgi"
    like = "unix"
    source = """
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

class Handler(WSGIRequestHandler):
    def log_message(self, *words): pass
    def get_environ(self): return super().get_environ() | {"TARGET": self.path}

def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    handler = "protected" if environ["PATH_INFO"] in ("/admin/x", "/admin/x.php") else "other"
    return [f"{handler}\\n{environ['TARGET']}".encode()]

make_server("127.0.0.1", int(sys.argv[1]), app, Server, Handler).serve_forever()
"""


class Flask(Reader):
    """Werkzeug's router behind waitress, and the well-known recipe for an app below a folder, which
    takes the folder's name from a field."""

    name = "flask"
    like = "unix"
    source = """
import sys
from flask import Flask, request
from waitress import serve

app = Flask(__name__, static_folder=None)

def answer(handler): return f"{handler}\\n{request.environ['REQUEST_URI']}", {"Content-Type": "text/plain"}

@app.route("/admin/x")
@app.route("/admin/x.php")
def protected(): return answer("protected")

@app.route("/")
@app.route("/<path:any>")
def other(any=""): return answer("other")

class Prefixed:
    def __init__(self, app): self.app = app
    def __call__(self, environ, start):
        name = environ.get("HTTP_X_SCRIPT_NAME", "")
        if name and environ["PATH_INFO"].startswith(name):
            environ |= {"SCRIPT_NAME": name, "PATH_INFO": environ["PATH_INFO"][len(name):]}
        return self.app(environ, start)

serve(Prefixed(app), host="127.0.0.1", port=int(sys.argv[1]), threads=16, _quiet=True)
"""


class Django(Reader):
    """Django's router behind gunicorn, which believes a field `SCRIPT_NAME` from loopback."""

    name = "django"
    like = "unix"
    source = """
import sys
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path, re_path
from gunicorn.app.base import BaseApplication

def answer(handler):
    return lambda request, **_: HttpResponse(f"{handler}\\n{request.META['RAW_URI']}", content_type="text/plain")

urlpatterns = [path("admin/x", answer("protected")), re_path(r"^admin/x\\.php$", answer("protected")), re_path("", answer("other"))]
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x", USE_I18N=False)

class Server(BaseApplication):
    def load_config(self):
        for name, value in {"bind": f"127.0.0.1:{sys.argv[1]}", "worker_class": "gthread", "threads": 16, "loglevel": "error"}.items():
            self.cfg.set(name, value)
    def load(self): return get_wsgi_application()

Server().run()
"""


class Starlette(Reader):
    """An ASGI app behind uvicorn, which decodes paths."""

    name = "starlette"
    like = "unix"
    source = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def answer(handler):
    async def say(request):
        return PlainTextResponse(handler + "\\n" + request.scope["raw_path"].decode("latin-1"))
    return say

app = Starlette(routes=[Route("/admin/x", answer("protected")), Route("/admin/x.php", answer("protected")),
                        Route("/{any:path}", answer("other"))])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


class Express(_Node):
    """Letter case and a slash at the end do not count, unless an app says so."""

    name = "express"
    gate = {}
    like = None
    script = """
const app = require("express")();
const answer = (handler) => (request, response) => response.type("text").send(handler + "\\n" + request.originalUrl);
app.all(["/admin/x", "/admin/x.php"], answer("protected"));
app.use(answer("other"));
app.listen(Number(process.env.PORT), "127.0.0.1");
"""


class Fastify(_Node):
    """Told to end a path at the first `;`, as it did by itself before its fifth version."""

    name = "fastify"
    gate = {}
    like = "unix"
    script = """
const app = require("fastify")({ routerOptions: { useSemicolonDelimiter: true } });
const answer = (handler) => (request, reply) => reply.type("text/plain").send(handler + "\\n" + request.raw.url);
for (const path of ["/admin/x", "/admin/x.php"]) app.all(path, answer("protected"));
app.setNotFoundHandler((request, reply) => answer("other")(request, reply.code(200)));
app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
"""


class Tomcat(Reader):
    """The embedded one from Debian's package; compiled as it starts."""

    name = "tomcat"
    like = "tomcat"
    jar = "/usr/share/java/tomcat10-embed-core.jar"
    source = """
import jakarta.servlet.http.*;
import org.apache.catalina.startup.Tomcat;

public class Paths {
    static HttpServlet answer(String handler) {
        return new HttpServlet() {
            @Override protected void service(HttpServletRequest request, HttpServletResponse response) throws java.io.IOException {
                response.setContentType("text/plain");
                response.getWriter().print(handler + "\\n" + request.getRequestURI());
            }
        };
    }

    public static void main(String[] words) throws Exception {
        java.util.logging.LogManager.getLogManager().reset();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(words[1]);
        tomcat.setPort(Integer.parseInt(words[0]));
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("maxKeepAliveRequests", "-1");
        // Escaped slashes are read, which is the worst case for a gate.
        tomcat.getConnector().setEncodedSolidusHandling("decode");
        var context = tomcat.addContext("", words[1]);
        Tomcat.addServlet(context, "protected", answer("protected"));
        Tomcat.addServlet(context, "other", answer("other"));
        context.addServletMappingDecoded("/admin/x", "protected");
        context.addServletMappingDecoded("/admin/x.php", "protected");
        context.addServletMappingDecoded("/", "other");
        tomcat.start();
        tomcat.getServer().await();
    }
}
"""

    def command(self) -> list[str]:
        script = self.home / "Paths.java"
        script.write_text(self.source)
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", self.jar, str(script), str(self.port), str(self.home)]


class Nginx(Reader):
    """Matches its locations after decoding and after merging slashes."""

    name = "nginx"
    like = "unix"
    locations = """
    location = /admin/x { return 200 "protected\\n$request_uri"; }
    location = /admin/x.php { return 200 "protected\\n$request_uri"; }
    location / { return 200 "other\\n$request_uri"; }
"""

    def command(self) -> list[str]:
        config = self.home / "nginx.conf"
        account = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(f"{kind}_temp_path {self.home};" for kind in "client_body proxy fastcgi uwsgi scgi".split())
        config.write_text(
            f"daemon off; pid {self.home}/nginx.pid; worker_processes 1; {account} events {{}}\n"
            f"http {{ access_log off; default_type text/plain; keepalive_requests 1000000; {temporary}\n"
            f"server {{ listen 127.0.0.1:{self.port}; {self.locations} }} }}\n"
        )
        return ["/usr/sbin/nginx", "-c", str(config), "-e", "stderr"]


#: As front controllers do: what is behind the script's name, or else the whole path.
FRONT = """<?php
header('Content-Type: text/plain');
$path = $_SERVER['PATH_INFO'] ?? '';
if ($path === '') $path = rawurldecode(explode('?', $_SERVER['REQUEST_URI'])[0]);
echo trim($path, "/ \\t\\n\\r\\0\\x0B") === 'admin/x' ? 'protected' : 'other', "\\n", $_SERVER['REQUEST_URI'];
"""
SCRIPT = """<?php
header('Content-Type: text/plain');
echo "protected\\n", $_SERVER['REQUEST_URI'];
"""


class Php:
    """PHP as a FastCGI server, and the files of one app: a front controller, a script, one that
    stands for its folder, and one that is called without its ending."""

    def __init__(self, www: Path) -> None:
        (www / "admin/run").mkdir(parents=True)
        (www / "index.php").write_text(FRONT)
        for script in ("admin/x.php", "admin/run/index.php", "hidden.php"):
            (www / script).write_text(SCRIPT)
        self.port = free_port()
        self.process = subprocess.Popen(
            ["php-cgi", "-b", f"127.0.0.1:{self.port}"],
            env=os.environ | {"PHP_FCGI_CHILDREN": "2", "PHP_FCGI_MAX_REQUESTS": "0"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class NginxPhp(Nginx):
    """As PHP's manual has it: whatever has `.php/` in it is a script with an argument."""

    name = "nginx-php"
    like = "php"

    def command(self) -> list[str]:
        www = self.home / "www"
        self.php = Php(www)
        self.locations = f"""
    root {www}; index index.php;
    location / {{ try_files $uri $uri/ /index.php?$query_string; }}
    rewrite ^/hidden/?$ /hidden.php;
    location ~ [^/]\\.php(/|$) {{
      fastcgi_split_path_info ^(.+?\\.php)(/.*)$;
      if (!-f $document_root$fastcgi_script_name) {{ return 404; }}
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
      fastcgi_param PATH_INFO $fastcgi_path_info;
      fastcgi_pass 127.0.0.1:{self.php.port};
    }}
"""
        return super().command()

    def stop(self) -> None:
        super().stop()
        self.php.stop()


class ApachePhp(Apache):
    """mod_php's successor: a handler for `.php` files, and one script for what is no file."""

    name = "apache-php"
    gate = {}
    like = "php"

    def command(self) -> list[str]:
        self.php = Php(self.home / "www")
        account = ""
        if self.outside:
            account = "User nobody\nGroup nogroup"
            subprocess.run(["chown", "-R", "nobody:nogroup", self.home], check=True)
        modules = "mpm_event authz_core dir mime proxy proxy_fcgi rewrite".split()
        config = self.home / "httpd.conf"
        config.write_text(
            f"ServerRoot {self.home}\nServerName app.internal\nListen 127.0.0.1:{self.port}\nPidFile {self.home}/httpd.pid\n"
            f"ErrorLog {self.home}/error.log\nDefaultRuntimeDir {self.home}\nTypesConfig /etc/mime.types\n"
            + "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in modules)
            + f"{account}\nStartServers 1\nMaxKeepAliveRequests 0\nDocumentRoot {self.home}/www\n"
            "<Directory />\nRequire all granted\n</Directory>\nDirectoryIndex index.php\nFallbackResource /index.php\n"
            "RewriteEngine On\nRewriteRule ^/hidden/?$ /hidden.php [PT]\n"
            # PHP here is php-cgi, and escaped slashes are read, which is the worst case for a gate.
            "ProxyFCGIBackendType GENERIC\nAllowEncodedSlashes On\n"
            f'<FilesMatch "\\.php$">\nSetHandler proxy:fcgi://127.0.0.1:{self.php.port}\n</FilesMatch>\n'
        )
        return ["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(config)]

    def stop(self) -> None:
        super().stop()
        self.php.stop()


READERS = [Wsgi, Flask, Django, Starlette, Express, Fastify, Tomcat, Nginx, NginxPhp, ApachePhp]
