"""The services that gRPC itself brings for every server: health checking and reflection."""

from __future__ import annotations

import socket
import sys
import time

from . import App

#: As the manuals of both packages say.
SERVER = """
import sys
from concurrent import futures
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

server = grpc.server(futures.ThreadPoolExecutor(8))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
reflection.enable_server_reflection([health_pb2.DESCRIPTOR.services_by_name["Health"].full_name], server)
servicer.set("boats", health_pb2.HealthCheckResponse.NOT_SERVING)
server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
"""


class GrpcServices(App):
    name = "grpc"

    def command(self) -> list[str]:
        return [sys.executable, "-c", SERVER, f"127.0.0.1:{self.port}"]

    def _wait(self) -> None:
        """It speaks HTTP/2 alone: a connection is all that can be asked for simply."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        output = self.log.read_text(errors="replace")[-4000:]
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{output}")
