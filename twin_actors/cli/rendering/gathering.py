"""A scenario's own files, gathered so that they find each other again in another place."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

KEYS_OF_KEYS = frozenset({"cert_file", "key_file"})
"""What these name stays where it is: a private key is not for a folder that becomes an image."""

LONGEST = 1_024
"""Letters; a longer text is prose, and no file."""


def gathered(files: Sequence[Path]) -> tuple[list[tuple[Path, str]], list[Path]]:
    """``(file, its path in the new folder)`` of the scenario's files and of all files that they name, scenario first.

    Relative names go on pointing at the same files, because the new paths begin at what all have in common. The second
    list has what is named and not taken: private keys, and absolute names, which would not point into the new folder.
    """
    from twin_actors.scenario.yaml_text import read_yaml

    wanted = [path.expanduser().resolve() for path in files]
    left: list[Path] = []
    for path in list(wanted):
        for key, name in _texts(read_yaml(path, str(path)).content, ""):
            beside = path.parent / name
            if "\0" in name or len(name) > LONGEST or not beside.is_file():
                continue
            (left if key in KEYS_OF_KEYS or os.path.isabs(name) else wanted).append(beside.resolve())
    wanted = list(dict.fromkeys(wanted))
    root = Path(os.path.commonpath([path.parent for path in wanted]))
    return [(path, path.relative_to(root).as_posix()) for path in wanted], left


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(each, str(name))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, key)
