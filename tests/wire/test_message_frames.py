"""Messages arrive whole and in order however the network cuts the stream, through the buffer and through paho."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twin_actors.testing.live import eventually
from twin_actors.wire.address import BrokerAddress
from twin_actors.wire.client import MqttClient

CONNACK = {"5": b"\x20\x03\x00\x00\x00", "3.1.1": b"\x20\x02\x00\x00"}
PINGRESP = b"\xd0\x00"


def publish(protocol: str, topic: bytes, payload: bytes, qos: int, mid: int, properties: bytes = b"") -> bytes:
    """A PUBLISH packet, written by the book (MQTT 5, section 3.3)."""
    body = struct.pack("!H", len(topic)) + topic
    if qos:
        body += struct.pack("!H", mid)
    if protocol == "5":
        body += bytes([len(properties)]) + properties
    body += payload
    length, left = b"", len(body)
    while True:
        left, low = divmod(left, 128)
        length += bytes([low | (0x80 if left else 0)])
        if not left:
            return bytes([0x30 | qos << 1]) + length + body


@contextlib.contextmanager
def bytes_from(protocol: str, pieces: list[bytes], heard: bytearray, hang_up: bool = False) -> Iterator[int]:
    """A listener that greets a client and sends it these pieces, one write each."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.recv(4096)
                connection.sendall(CONNACK[protocol])
                for piece in pieces:
                    connection.sendall(piece)
                if hang_up:
                    return
                connection.settimeout(10)
                with contextlib.suppress(OSError):
                    while more := connection.recv(65_536):
                        heard.extend(more)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def client_to(port: int, protocol: str, got: list[tuple[str, bytes, int]]) -> MqttClient:
    return MqttClient(
        BrokerAddress(host="127.0.0.1", port=port, protocol=protocol),  # type: ignore[arg-type]
        lambda topic, payload, qos, mid, connection: got.append((topic, payload, qos)),
        client_id="frames",
        manual_ack=True,
    )


messages = st.tuples(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00#+"), min_size=1, max_size=20),
    st.one_of(st.binary(max_size=300), st.integers(16_000, 17_000).map(bytes), st.just(bytes(70_000))),
    st.sampled_from([0, 1]),
    st.booleans(),
)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@given(said=st.lists(messages, min_size=1, max_size=12), cuts=st.lists(st.integers(1, 400), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_of_the_stream_gives_the_same_messages(
    protocol: str, said: list[tuple[str, bytes, int, bool]], cuts: list[int]
) -> None:
    stream = b""
    for number, (topic, payload, qos, stamped) in enumerate(said, start=1):
        # a payload format indicator, and every other time a user property
        properties = b"\x01\x01" + (b"\x26\x00\x01k\x00\x50" + b"v" * 80 if number % 2 else b"") if stamped else b""
        stream += publish(protocol, topic.encode(), payload, qos, number, properties) + PINGRESP
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    pieces.append(stream)
    got: list[tuple[str, bytes, int]] = []
    heard = bytearray()
    with bytes_from(protocol, [piece for piece in pieces if piece], heard) as port:
        client = client_to(port, protocol, got)
        eventually(lambda: client.step(0.05) >= 0 and len(got) >= len(said), within_s=10)
        mids = [number for number, (_, _, qos, _) in enumerate(said, start=1) if qos]
        if mids:
            assert client.acknowledge(mids[-1], client.connection) == len(mids)
        client.close()
    assert got == [(topic, payload, qos) for topic, payload, qos, _ in said]
    assert b"".join(struct.pack("!BBH", 0x40, 2, mid) for mid in mids) in bytes(heard)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_connection_that_ends_inside_a_message_is_noticed(protocol: str) -> None:
    whole = publish(protocol, b"a/b", b"{}", 0, 0)
    got: list[tuple[str, bytes, int]] = []
    with bytes_from(protocol, [whole + whole[:5]], bytearray(), hang_up=True) as port:
        client = client_to(port, protocol, got)
        eventually(lambda: client.step(0.05) >= 0 and client.failed_attempts, within_s=10)
        assert "lost" in client.last_error
        client.close()
    assert got == [("a/b", b"{}", 0)]


def test_a_topic_that_is_no_text_comes_without_its_name() -> None:
    got: list[tuple[str, bytes, int]] = []
    with bytes_from("5", [publish("5", b"\xff\xfe", b"x", 0, 0)], bytearray()) as port:
        client = client_to(port, "5", got)
        eventually(lambda: client.step(0.05) >= 0 and got, within_s=10)
        client.close()
    assert got == [("", b"x", 0)]
