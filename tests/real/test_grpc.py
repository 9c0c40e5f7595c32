"""gRPC behind the gate: its own client, its own server, and the calls that both bring along."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import grpc
import pytest
from apps.grpc_services import GrpcServices
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def gate(gate_for, home):
    app = GrpcServices(home / "app")
    upstream = {"urls": [app.url], "protocol": "http2"}
    yield gate_for([{"app": "calls", "hosts": ["calls"], "upstream": upstream, "require": "password"}])
    app.stop()


@pytest.fixture
def channel(gate) -> Iterator[grpc.Channel]:
    """grpc resolves no `*.localhost`: the address is given, and the name that it is called by."""
    options = [("grpc.ssl_target_name_override", "calls.localhost"), ("grpc.default_authority", gate.host("calls"))]
    credentials = grpc.ssl_channel_credentials(gate.ca.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{gate.port}", credentials, options) as channel:
        yield channel


@pytest.fixture
def as_ann(gate, person_of) -> list[tuple[str, str]]:
    """Ann's session, as metadata of a call."""
    ann = person_of(gate)
    # The service has no page: gRPC resets what is no call, and the gate says so once she is known.
    page = ann.answer(ann.visit(gate.url("calls")))
    assert page.status == 502, page
    return [("cookie", ann.cookies(gate.host("calls")))]


def check(channel: grpc.Channel, service: str, metadata=None):
    stub = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), metadata=metadata, timeout=20)


def test_a_call_of_nobody_is_refused_as_such(channel):
    with pytest.raises(grpc.RpcError) as refused:
        check(channel, "")
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_call_is_answered_with_the_status_that_stands_in_its_trailers(channel, as_ann):
    assert check(channel, "", as_ann).status == SERVING
    assert check(channel, "boats", as_ann).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        check(channel, "trains", as_ann)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND, "the service's own status"


def test_a_stream_goes_on_until_its_client_has_enough(channel, as_ann):
    stub = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), metadata=as_ann, timeout=30)
    assert next(watch).status == SERVING
    watch.cancel()
    assert check(channel, "", as_ann).status == SERVING


def test_both_sides_take_turns_in_one_call(channel, as_ann):
    told: queue.Queue[str] = queue.Queue()

    def questions():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        # The second question depends on the first one's answer.
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=told.get(timeout=20))

    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        questions(), metadata=as_ann, timeout=30
    )
    services = next(answers).list_services_response.service
    told.put(next(s.name for s in services if "Health" in s.name))
    assert next(answers).file_descriptor_response.file_descriptor_proto
    assert list(answers) == []
