"""Seeded damage to valid inputs: bytes, JSON documents and text with lines; every run of a seed is the same."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

STRANGE_NUMBERS: Final = (
    "0",
    "-0.0",
    "1e400",
    "-1e400",
    "1e308",
    "5e-324",
    "9223372036854775808",
    "-9223372036854775809",
    "NaN",
    "Infinity",
    "1e",
    "0x10",
    "007",
    "1_000",
    "٣",
    "1" * 400,
    "1" * 5_000,
    "18446744073709551616.5",
    ".5",
    "+1",
    "true",
    "null",
)
STRANGE_WORDS: Final = (
    "",
    " ",
    "\0",
    "\ud83d\ude00",
    "é" * 300,
    "../../etc",
    "$SYS",
    "#",
    "+",
    "values",
    "ts",
    "seq",
    "boot",
    "n",
    "bn",
    "v",
    "__class__",
    "constructor",
    "a" * 5_000,
    "\u202e",
    "nan",
    "null",
    "-",
)
STRANGE_BYTES: Final = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x1f\x8b\x08",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"//",
    b"\xc3\x28",
    b"\n",
    b"\r\n",
    b"\t",
    b"[" * 60,
    b'{"a":' * 60,
    b"\x80",
    b"'",
)

YAML_MARKS: Final = (
    "",
    " ",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "-",
    "'",
    '"',
    "|",
    ">",
    "&a ",
    "*a",
    "!x ",
    "%",
    "@",
    "`",
    "? ",
)
YAML_VALUES: Final = (
    "[]",
    "{}",
    "~",
    "true",
    "no",
    "-1",
    "0",
    "1e400",
    ".nan",
    ".inf",
    "[1, [2, [3]]]",
    "{a: {b: {c: 1}}}",
    "2026-13-45",
    "99999999999999999999",
    "1h",
    "-5min",
    "'*'",
    "'{n}'",
    '"\\u0000"',
    "&x [1]",
    "*x",
    "!!python/object:os.system",
    "!replace []",
    "5e-324",
    "1e308",
    "substation/*",
    "/",
    "a/b/c",
    "[null]",
    "12:30",
    "0o17",
    "0x1F",
    "memory:",
    "sqlite:/dev/null",
    "mqtt://[::1",
    "file:///etc/passwd",
    "\U0001f600",
    "entities",
    "city",
)
YAML_LINES: Final = (
    "city: again",
    "entities:",
    "entities: []",
    "  - {}",
    "  - {kind: substation}",
    "? [complex, key]\n: value",
    "<<: *nothing",
    "a: &a [*a]",
    "a: &b {b: *b}",
    "---",
    "...",
    "%YAML 9.9",
    "!!binary aGVsbG8=",
    "\ttab: 1",
    "x: |",
    "  - " + "[" * 50,
    "relations: {name: x}",
    "clock: {mode: scaled, speed: 1e300}",
    "tick_s: 1e-300",
    "tick_s: 1e300",
    "limits: {backlog: 1e18}",
    "placement: {entities_per_actor: 1e18}",
    "  - {kind: footfall, pattern: 'f-{n}', count: 999999999999}",
    "  - {kind: footfall, pattern: '{n:99999999}', count: 2}",
    "  - {kind: footfall, pattern: '{n.__class__}', count: 2}",
    "  - {kind: footfall, csv: /dev/zero}",
    "  - {kind: footfall, csv: /proc/self/mem}",
    "  - {kind: footfall, geojson: .}",
    "broker: {url: 'mqtt://user:p@ss@host:99999999'}",
    "store: {url: 'postgresql://'}",
    "story: [{at: 1e300s}]",
    "place: {lat_deg: 1e300, lon_deg: -1e300, time_zone: ../../etc/passwd}",
)


def broken_bytes(random: Random, valid: bytes, others: Sequence[bytes]) -> bytes:
    """A few random cuts, flips, insertions and splices of a valid message."""
    data = bytearray(valid)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(data) + 1)
        match random.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << random.randrange(8)
            case 1:
                del data[at:]
            case 2:
                del data[:at]
            case 3:
                del data[at : at + random.randrange(1, 20)]
            case 4:
                data[at:at] = random.choice(STRANGE_BYTES)
            case 5:
                data[at:at] = data[at : at + random.randrange(1, 40)]
            case 6:
                other = random.choice(others)
                data[at:] = other[random.randrange(len(other) + 1) :]
            case _:
                data[at : at + 1] = random.randbytes(random.randrange(1, 6))
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Spelled:
    """A value that is written into JSON exactly as it is spelled, right or wrong."""

    text: str


def strange_value(random: Random) -> Any:
    """Any value that a careless or hostile device may put in a field, some of them no JSON at all."""
    match random.randrange(9):
        case 0 | 1 | 2:
            return Spelled(random.choice(STRANGE_NUMBERS))
        case 3:
            return random.choice(STRANGE_WORDS)
        case 4:
            return [strange_value(random) for _ in range(random.randrange(6))]
        case 5:
            return {random.choice(STRANGE_WORDS): strange_value(random) for _ in range(random.randrange(3))}
        case 6:
            return random.choice((True, False, None))
        case 7:
            return random.uniform(-1e6, 1e6)
        case _:
            return random.choice((0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)))


def broken_document(random: Random, valid: bytes) -> bytes:
    """A valid JSON message with keys lost, doubled, renamed or swapped, and values of any other type or size."""
    document = json.loads(valid)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            return spell(strange_value(random))
        container, key = random.choice(places)
        match random.randrange(7):
            case 0:
                del container[key]
            case 1 | 2:
                container[key] = strange_value(random)
            case 3 if isinstance(container, dict):
                container[random.choice(STRANGE_WORDS) + str(key)[: random.randrange(4)]] = container.pop(key)
            case 3:
                container.insert(random.randrange(len(container) + 1), strange_value(random))
            case 4:
                document = [copy.deepcopy(document) for _ in range(random.randrange(1, 4))]
            case 5:
                document = {"values": document}
            case _:
                container[key] = random.choice((1.5, str(key), [container[key]], {str(key): 2.0}))
    return spell(document)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    pending = [document]
    while pending:
        container = pending.pop()
        if isinstance(container, dict | list):
            for key, value in container.items() if isinstance(container, dict) else enumerate(container):
                yield container, key
                pending.append(value)


def spell(value: Any) -> bytes:
    """JSON text of a document that may hold ``Spelled`` values; lone surrogates become bytes that are no UTF-8."""
    return _text(value).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    if isinstance(value, Spelled):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def broken_text(random: Random, valid: str) -> bytes:
    """A text of lines (YAML, say) with lines, words and marks lost, doubled, moved or replaced, or with binary."""
    lines = valid.splitlines()
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(lines)) if lines else 0
        match random.randrange(12):
            case 0 if lines:
                del lines[at]
            case 1 if lines:
                lines.insert(at, lines[at])
            case 2 if lines:
                other = random.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3 if lines:
                lines[at] = " " * random.randrange(1, 5) + lines[at]
            case 4 if lines:
                lines[at] = lines[at].lstrip()
            case 5 | 6 if lines:
                lines[at] = _other_word(random, lines[at])
            case 7 if lines:
                lines[at] = lines[at].replace(random.choice('{}[]:,-"#'), random.choice(YAML_MARKS), 1)
            case 8:
                lines.insert(at, random.choice(YAML_LINES))
            case 9 if lines:
                del lines[at:]
            case 10:
                return broken_bytes(random, "\n".join(lines).encode("utf-8", "surrogatepass"), [valid.encode()])
            case _:
                lines.insert(at, f"{random.choice(STRANGE_WORDS)}: {random.choice(STRANGE_NUMBERS)}")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _other_word(random: Random, line: str) -> str:
    """The line with one of its keys or values replaced."""
    words = list(re.finditer(r"[\w./*+-]+", line))
    if not words:
        return line
    word = random.choice(words)
    shuffled = "".join(random.sample(word[0], len(word[0])))
    other = random.choice((shuffled, word[0] * 2, random.choice(STRANGE_NUMBERS), random.choice(YAML_VALUES)))
    return line[: word.start()] + other + line[word.end() :]
