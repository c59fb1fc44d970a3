"""Real brokers for the tests of the wire, and certificates made for the occasion."""

from __future__ import annotations

import datetime as dt
import ipaddress
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twin_actors.wire.broker import EmbeddedBroker, TlsFiles, find_mosquitto
from twin_actors.wire.client import BrokerAddress, MqttClient

MOSQUITTO = pytest.param(
    "mosquitto", marks=pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")
)


def eventually(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait for a condition; a failure says which."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s} s: {condition}"
        time.sleep(0.005)


class Inbox:
    """Collects deliveries as (topic, payload, qos, mid, connection)."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[str, bytes, int, int, int]] = []

    def __call__(self, *delivery: object) -> None:
        self.deliveries.append(delivery)  # type: ignore[arg-type]

    @property
    def payloads(self) -> list[bytes]:
        return [bytes(payload) for _, payload, *_ in self.deliveries]


@pytest.fixture(params=[MOSQUITTO, "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """Each kind of embedded broker."""
    with EmbeddedBroker(tmp_path / "broker", request.param) as running:
        yield running


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    with EmbeddedBroker(tmp_path / "broker", "mosquitto") as running:
        yield running


@pytest.fixture
def open_client() -> Iterator[Callable[..., MqttClient]]:
    """A factory of connected clients that are closed in the end."""
    opened: list[MqttClient] = []

    def open_one(address: BrokerAddress, *arguments: object, started: bool = True, **options: object) -> MqttClient:
        client = MqttClient(address, *arguments, **options)  # type: ignore[arg-type]
        opened.append(client)
        if started:
            client.start()
        client.wait_connected(10)
        return client

    yield open_one
    for client in opened:
        client.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A small authority and a certificate for the loopback."""
    x509 = pytest.importorskip("cryptography.x509", reason="certificates are made with cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("certificates")
    now = dt.datetime.now(dt.UTC)

    def name(text: str) -> object:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(subject: str, key: object, signer: object, *, authority: bool) -> object:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Twin Actors test authority"))
            .public_key(key.public_key())  # type: ignore[attr-defined]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()),  # type: ignore[attr-defined]
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),  # type: ignore[attr-defined]
                critical=False,
            )
        )
        if authority:
            usage = dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        else:
            loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    paths = {part: folder / f"{part}.pem" for part in ("ca", "cert", "key")}
    ca = certificate("Twin Actors test authority", authority_key, authority_key, authority=True)
    cert = certificate("broker", server_key, authority_key, authority=False)
    paths["ca"].write_bytes(ca.public_bytes(pem))  # type: ignore[attr-defined]
    paths["cert"].write_bytes(cert.public_bytes(pem))  # type: ignore[attr-defined]
    paths["key"].write_bytes(
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return TlsFiles(ca_file=str(paths["ca"]), cert_file=str(paths["cert"]), key_file=str(paths["key"]))
