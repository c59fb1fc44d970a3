"""Where a city's plan lies for its actors: in the folder of its launch or, in a cluster, in Ray's control store.

An actor on another machine sees no folder of the launch. Ray's control store is reached from every node, is protected
by Ray's token like the actors themselves, and lives as long as they can: when it is gone, the next launch writes anew.
The plan is not in the city's own store because it may hold the broker's password, which backups must not have.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twin_actors.runtime.processes import Record

IN_RAY = "ray:"
"""How the place of a plan in Ray begins; behind it stands the city's namespace."""


class Shelf(Protocol):
    """Named pieces, each of which is replaced at once."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    def has(self, name: str) -> bool: ...

    def write(self, name: str, data: bytes) -> None: ...

    def rename(self, name: str, to: str) -> None:
        """Replace ``to`` by what is called ``name``."""

    def remove(self, name: str) -> None:
        """It need not be there."""

    def stamp(self, name: str) -> Any:
        """Something else whenever it has been replaced. Raises FileNotFoundError."""


class Folder:
    """Files that only their owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self._path / name).exists()

    def write(self, name: str, data: bytes) -> None:
        descriptor = os.open(self._path / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # also where the file was there before
            file.write(data)

    def rename(self, name: str, to: str) -> None:
        os.replace(self._path / name, self._path / to)

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def stamp(self, name: str) -> int:
        return (self._path / name).stat().st_mtime_ns


class RayShelf:
    """Keys in Ray's control store, of the Ray that this process is connected to.

    Its public API has no such place; Ray's own libraries keep theirs with these functions, and only this class of ours
    calls them.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def _keys(self, name: str) -> tuple[bytes, bytes]:
        return f"{self._namespace}/{name}".encode(), f"{self._namespace}/{name}#stamp".encode()

    def read(self, name: str) -> bytes:
        found = self._get(self._keys(name)[0])
        if found is None:
            raise FileNotFoundError(f"Ray keeps no {name} of {self._namespace}: the city has ended, launch it again")
        return zlib.decompress(found)

    def has(self, name: str) -> bool:
        return self._get(self._keys(name)[0]) is not None

    def write(self, name: str, data: bytes) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        key, stamp = self._keys(name)
        _internal_kv_put(key, zlib.compress(data, 1), overwrite=True, namespace=_SPACE)
        _internal_kv_put(stamp, os.urandom(8), overwrite=True, namespace=_SPACE)

    def rename(self, name: str, to: str) -> None:
        self.write(to, self.read(name))
        self.remove(name)

    def remove(self, name: str) -> None:
        from ray.experimental.internal_kv import _internal_kv_del

        for key in self._keys(name):
            _internal_kv_del(key, namespace=_SPACE)

    def stamp(self, name: str) -> bytes:
        found = self._get(self._keys(name)[1])
        if found is None:
            raise FileNotFoundError(f"Ray keeps no {name} of {self._namespace}")
        return found

    def clear(self) -> None:
        """Remove all that the city has here."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(f"{self._namespace}/".encode(), del_by_prefix=True, namespace=_SPACE)

    @staticmethod
    def _get(key: bytes) -> bytes | None:
        from ray.experimental.internal_kv import _internal_kv_get

        found: bytes | None = _internal_kv_get(key, namespace=_SPACE)
        return found


_SPACE = b"twin-actors"


def shelf_of(place: str | Path) -> Shelf:
    """The shelf at a place, as ``place_of`` names it: a folder's path, or ``ray:NAMESPACE``."""
    named = str(place)
    return RayShelf(named.removeprefix(IN_RAY)) if named.startswith(IN_RAY) else Folder(Path(place))


def place_of(record: Record, folder: Path) -> str:
    """Where the actors of a city find its plan: in its folder, or in Ray where that spans other machines."""
    borrowed = record.head is None and record.owner is None
    return f"{IN_RAY}{record.namespace}" if borrowed else str(folder)
