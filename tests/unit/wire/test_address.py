"""Broker addresses: written as URLs, checked, and explained."""

from __future__ import annotations

import socket

import pytest

from twin_actors.wire.address import BrokerAddress, explain_failure, explain_refusal


def test_urls() -> None:
    plain = BrokerAddress.from_url("mqtt://broker.example")
    assert (plain.host, plain.port, plain.tls, plain.protocol) == ("broker.example", 1883, False, "auto")
    full = BrokerAddress.from_url("mqtts://me:p%40ss@[::1]:9883?ca_file=/etc/ca.pem&protocol=3.1.1&keepalive_s=5")
    assert (full.host, full.port, full.username, full.password) == ("::1", 9883, "me", "p@ss")
    assert (full.tls, full.ca_file, full.protocol, full.keepalive_s) == (True, "/etc/ca.pem", "3.1.1", 5)
    assert full.url == "mqtts://me@[::1]:9883"
    assert "p@ss" not in repr(full)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://x", "write mqtt://"),
        ("broker:1883", "write mqtt://"),
        ("mqtt://", "no host"),
        ("mqtt://x:99999", "[Pp]ort"),
        ("mqtt://x?colour=red", "unknown setting 'colour'"),
        ("mqtt://x?protocol=4", "auto, 5 or 3.1.1"),
        ("mqtt://x?ca_file=a.pem", "mqtts://"),
        ("mqtts://x?cert_file=a.pem", "both"),
        ("mqtt://x?keepalive_s=0", "keepalive_s"),
    ],
)
def test_bad_urls_say_what_is_wrong(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BrokerAddress.from_url(url)


def test_missing_certificates_are_named() -> None:
    with pytest.raises(ValueError, match=r"ca_file '/nowhere/ca\.pem' does not exist"):
        BrokerAddress(tls=True, ca_file="/nowhere/ca.pem").tls_context()


def test_failures_say_what_to_do() -> None:
    address = BrokerAddress(host="quay", port=1883)
    assert "Correct the host" in explain_failure(address, socket.gaierror(-2, "Name or service not known"))
    assert "firewall" in explain_failure(address, TimeoutError())
    assert "Start the broker" in explain_failure(address, ConnectionRefusedError())
    assert "password" in explain_refusal(address, 134, "Bad user name or password")
    assert "Odd" in explain_refusal(address, 200, "Odd")
