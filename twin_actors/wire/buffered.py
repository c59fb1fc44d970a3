"""paho's client with a buffer before its socket: one system call for hundreds of small packets, not three for each.

paho reads a packet by its first byte, then byte by byte its length, then the rest, each from the socket. At tens of
thousands of messages a second these calls are most of the router's work (ADR 0010). paho offers no place for a buffer
but its own ``_sock_recv``; where a version of paho lacks it, ``client_class`` falls back to the client as it is.
"""

from __future__ import annotations

from typing import Final

import paho.mqtt.client as paho

_CHUNK: Final = 65_536


class BufferedClient(paho.Client):
    """Reads ahead; ``buffered`` says that packets wait here although the socket may have nothing more."""

    _ahead = b""
    _taken = 0

    @property
    def buffered(self) -> bool:
        return self._taken < len(self._ahead)

    def forget_buffer(self) -> None:
        """What was read ahead belongs to a connection that has ended."""
        self._ahead, self._taken = b"", 0

    def _sock_recv(self, bufsize: int) -> bytes:
        start = self._taken
        if start == len(self._ahead):
            if bufsize >= _CHUNK:
                return super()._sock_recv(bufsize)
            self._ahead, start = super()._sock_recv(_CHUNK), 0
        self._taken = end = min(start + bufsize, len(self._ahead))
        return self._ahead[start:end]


class PlainClient(paho.Client):
    """The same face without a buffer."""

    buffered = False

    def forget_buffer(self) -> None:
        """There is none."""


def client_class() -> type[BufferedClient] | type[PlainClient]:
    return BufferedClient if hasattr(paho.Client, "_sock_recv") else PlainClient
