"""What ends a thread's wait for the network from outside: a pair of sockets, one end of which is waited for."""

from __future__ import annotations

import socket
import weakref


def _close_both(one: socket.socket, other: socket.socket) -> None:
    one.close()
    other.close()


class Wakeup:
    """Can be given to ``select`` and ``poll``: it is readable after ``ring`` until ``drain``."""

    def __init__(self) -> None:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)
        self._rung.setblocking(False)
        weakref.finalize(self, _close_both, self._heard, self._rung)  # a client may be forgotten unclosed

    def fileno(self) -> int:
        return self._heard.fileno()

    def ring(self) -> None:
        """Raises OSError when it is closed."""
        try:
            self._rung.send(b"x")
        except BlockingIOError:
            return  # it is about to wake up anyway

    def drain(self) -> None:
        try:
            self._heard.recv(4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        _close_both(self._heard, self._rung)
