"""Where a broker is and how to be let in, and the words for what goes wrong on the way."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, get_args
from urllib.parse import parse_qsl, quote, unquote, urlsplit

Protocol: TypeAlias = Literal["auto", "5", "3.1.1"]

_SCHEMES: Final = {"mqtt": (1883, False), "tcp": (1883, False), "mqtts": (8883, True), "ssl": (8883, True)}
_IN_QUERY: Final = ("ca_file", "cert_file", "key_file", "protocol", "keepalive_s")


class TlsContext(ssl.SSLContext):
    """A context that remembers the last socket it wrapped: paho forgets to close one whose handshake fails."""

    last: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        self.last = super().wrap_socket(*arguments, **options)
        return self.last

    def close_last(self) -> None:
        if self.last is not None:
            self.last.close()
            self.last = None


class BrokerUnreachable(ConnectionError):
    """No session with the broker by the deadline; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """A broker. With ``protocol="auto"`` MQTT 5 is tried first, then 3.1.1."""

    host: str = "127.0.0.1"
    port: int = 1883
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    protocol: Protocol = "auto"
    keepalive_s: int = 30

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("the broker's address has no host: write mqtt://host:port")
        if not 0 < self.port < 65_536:
            raise ValueError(f"port {self.port} does not exist: ports lie between 1 and 65535")
        if self.protocol not in get_args(Protocol):
            raise ValueError(f"protocol is auto, 5 or 3.1.1, not {self.protocol!r}")
        if not 0 < self.keepalive_s < 65_536:
            raise ValueError(f"keepalive_s lies between 1 and 65535, not {self.keepalive_s}")
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("certificate files are only used with TLS: write mqtts:// or set tls")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("a client certificate needs both cert_file and key_file")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """From ``mqtt://user:password@host:1883`` or ``mqtts://host?ca_file=…&protocol=5``; raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"{url!r} is no broker address: write mqtt://host:port, or mqtts:// for TLS")
        port, tls = _SCHEMES[parts.scheme]
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        for name in query:
            if name not in _IN_QUERY:
                raise ValueError(f"unknown setting {name!r} in a broker address; known: {', '.join(_IN_QUERY)}")
        protocol = query.get("protocol", "auto")
        return cls(
            host=parts.hostname or "",
            port=parts.port or port,
            tls=tls,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            ca_file=query.get("ca_file"),
            cert_file=query.get("cert_file"),
            key_file=query.get("key_file"),
            protocol=protocol,  # type: ignore[arg-type]  # checked in __post_init__
            keepalive_s=int(query.get("keepalive_s", 30)),
        )

    @property
    def url(self) -> str:
        """The address without the password, for people and logs."""
        user = f"{quote(self.username)}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"

    def tls_context(self) -> TlsContext:
        """A context that checks the broker's certificate and name; ValueError names a file that cannot be used."""
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ValueError(f"{name} {path!r} does not exist or is no file")
        try:
            context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
            else:
                context.load_default_certs()
            if self.cert_file is not None and self.key_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"the certificate files of {self.url} cannot be used: {error}") from error
        return context


def explain_failure(address: BrokerAddress, error: OSError) -> str:
    """What an error while connecting means and what to do about it."""
    where = address.url
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"{where}: the broker's certificate is not trusted ({error.verify_message}). Give the certificate of "
            "its authority as ca_file, and use the host name that the certificate was made for"
        )
    if isinstance(error, ssl.SSLError) or (address.tls and isinstance(error, ConnectionResetError)):
        what = getattr(error, "reason", None) or error
        return (
            f"{where}: no TLS connection ({what}). Is this the broker's TLS port (usually 8883)? "
            "Write mqtt:// for a port without TLS; does the broker ask for a client certificate?"
        )
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name is unknown ({error.strerror}). Correct the host in 'broker', or check DNS"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{where}: nothing listens there. Start the broker, or correct host and port in 'broker'; without "
            "'broker' the scenario brings its own"
        )
    if isinstance(error, TimeoutError):
        return f"{where}: no answer. Is the host up, and does a firewall between here and there let the port through?"
    return f"{where}: {error or type(error).__name__}. Check host and port in 'broker' and the network between"


_REFUSALS: Final = {
    132: "the broker does not speak this version of MQTT. Set protocol to auto, 5 or 3.1.1",
    133: "the broker does not accept this client id. Use another one",
    134: "user name or password is wrong. Correct username and password in 'broker'",
    135: "this user may not connect. Give username and password in 'broker', or the user the right to connect",
    136: "the broker is not available at the moment. It is tried again",
    137: "the broker is busy. It is tried again",
    138: "the broker has banned this client. Ask its administrator",
    149: "a message is larger than the broker allows. Send less at once, or raise its limit",
    151: "a quota of the broker is exceeded. Ask its administrator",
    159: "the broker is asked for connections too often. It is tried again",
}


def explain_refusal(address: BrokerAddress, code: int, name: str) -> str:
    """What a refusing CONNACK (MQTT 5.0, section 3.2.2.2) means; 3.1.1 codes come translated."""
    if code == 135 and address.username is not None:
        code = 134  # brokers answer "not authorised" to wrong passwords too
    return f"{address.url}: {_REFUSALS.get(code, f'the broker refused the connection ({name})')}"
