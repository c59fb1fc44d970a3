"""The files of a backup: blocks, each compressed, and a manifest with the SHA-256 of every file."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np

from twin_actors.store.base import StoreDamaged
from twin_actors.store.history import Resolution
from twin_actors.store.rollups import Buckets

FORMAT = 1
MANIFEST = "manifest.json"
_LENGTH = struct.Struct("<I")
_DTYPES = {"entities": "<i4", "fields": "<i4", "at_s": "<i8", "count": "<i8"}
_COLUMNS = ("entities", "fields", "at_s", "count", "minimum", "maximum", "total", "last", "last_at_s")


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says of one file."""

    sha256: str
    size_bytes: int
    blocks: int


class LogFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the manifest says of one log: it holds the entries ``first`` … ``stop`` − 1, in these files."""

    first: int
    stop: int
    rolled_to: int
    files: list[str]


class Manifest(msgspec.Struct, kw_only=True):
    """What a backup holds. ``digest`` is the SHA-256 of the manifest itself with an empty digest."""

    format: int = FORMAT
    made_at_s: float
    made_by: str
    files: dict[str, FileFacts]
    logs: dict[str, LogFacts]
    epochs: dict[str, int]
    counts: dict[str, int]
    digest: str = ""

    def signed(self) -> str:
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(self, digest=""))).hexdigest()


class BlockWriter:
    """A file of blocks: each a length in 4 bytes (little-endian) and that many bytes of zlib."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / name, "xb")  # noqa: SIM115  # closed by __exit__
        self._hash = hashlib.sha256()
        self._blocks = self._size = 0

    def write(self, block: bytes) -> None:
        packed = zlib.compress(block, 1)
        for part in (_LENGTH.pack(len(packed)), packed):
            self._file.write(part)
            self._hash.update(part)
            self._size += len(part)
        self._blocks += 1

    @property
    def facts(self) -> FileFacts:
        return FileFacts(sha256=self._hash.hexdigest(), size_bytes=self._size, blocks=self._blocks)

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read_blocks(path: Path) -> Iterator[bytes]:
    """The blocks of a file. Raises StoreDamaged."""
    return (block for _, block in placed_blocks(path))


def placed_blocks(path: Path, place: int = 0) -> Iterator[tuple[int, bytes]]:
    """The blocks of a file from a place on, each with the place where it begins. Raises StoreDamaged."""
    with _whole(path), open(path, "rb") as file:
        file.seek(place)
        while head := file.read(_LENGTH.size):
            (length,) = _LENGTH.unpack(head)
            packed = file.read(length)
            if len(packed) != length:
                raise StoreDamaged(f"{path} ends in the middle of a block: take another backup")
            yield place, zlib.decompress(packed)
            place += _LENGTH.size + length


def sha256_of(path: Path) -> str:
    with _whole(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    manifest.digest = manifest.signed()
    with open(folder / MANIFEST, "xb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> Manifest:
    """Raises ValueError when there is none or a newer version made it, StoreDamaged when it has been changed."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is not a backup: it has no {MANIFEST}")
    with _whole(path):
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    if manifest.format > FORMAT:
        raise ValueError(f"{folder}: a backup of format {manifest.format}, this version knows {FORMAT}: upgrade it")
    if manifest.digest != manifest.signed():
        raise StoreDamaged(f"{path} is not as it was written: take another backup")
    return manifest


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, zlib.error, struct.error, msgspec.MsgspecError) as error:
        raise StoreDamaged(f"{path} cannot be read ({error}): take another backup") from error


# -- buckets -------------------------------------------------------------------------------------------------------


def encode_buckets(resolution: Resolution, buckets: Buckets) -> bytes:
    columns = [getattr(buckets, name).astype(_DTYPES.get(name, "<f8"), copy=False).tobytes() for name in _COLUMNS]
    return msgspec.msgpack.encode((resolution.value, buckets.labels, columns))


def decode_buckets(block: bytes) -> tuple[Resolution, Buckets]:
    """Raises StoreDamaged."""
    try:
        resolution, labels, columns = msgspec.msgpack.decode(block, type=tuple[str, tuple[str, ...], list[bytes]])
        arrays: dict[str, Any] = {
            name: np.frombuffer(column, _DTYPES.get(name, "<f8"))
            for name, column in zip(_COLUMNS, columns, strict=True)
        }
        return Resolution(resolution), Buckets(labels=labels, **arrays)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreDamaged(f"a block of rolled-up history cannot be read ({error})") from error
