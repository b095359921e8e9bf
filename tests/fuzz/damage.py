"""Damage to bytes and to values: what any file can suffer, whatever its format.

Everything draws from a `random.Random`, so that hypothesis and the campaign use one set of damages. A damage gives the
content and what was done, in words.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

WHOLE_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    99,
    255,
    256,
    32767,
    -32768,
    65535,
    2**31 - 1,
    -(2**31),
    2**32,
    2**62,
    2**63,
    10**30,
)
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 1e-9, 1e9, 1e38, 1e300, math.nan, math.inf, -math.inf)
TEXTS = (
    "", " ", ".", "..", "../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", "con", "\u202egpj.exe", "e\u0301", "\x00",
    "\n", "\t",
    "x" * 300, "x" * 70000, "-1", "1e999", "nan", "inf", "None", "null", "=1+1", "<script>alert(1)</script>", "%s%n",
    "{0}",
    "\ud800", "\U0001f9e0", "0x10", "１２",
)  # fmt: skip


def damage_bytes(content: bytes, random: Random, other: bytes = b"") -> tuple[bytes, str]:
    """Damage that knows nothing of the format."""
    size = len(content)
    if not size:
        return b"\0", "one byte in an empty file"
    at, end = sorted((random.randrange(size), random.randrange(size)))
    ways: list[Callable[[], tuple[bytes, str]]] = [
        lambda: (content[:at], f"cut off after {at} of {size} bytes"),
        lambda: (content[: size - min(size, random.choice((1, 2, 8, 100)))], "the last bytes are missing"),
        lambda: (content[at:], f"the first {at} bytes are missing"),
        lambda: (content[:at] + content[end:], f"bytes {at} to {end} are missing"),
        lambda: (content[:end] + content[at:], f"bytes {at} to {end} come twice"),
        lambda: (content + content, "the file twice"),
        lambda: (content + (other or b"more"), "something behind the file"),
        lambda: ((other or b"more") + content, "something before the file"),
        lambda: (content[:at] + bytes(end - at) + content[end:], f"bytes {at} to {end} are zero"),
        lambda: (content[:at] + random.randbytes(min(64, size - at)) + content[at + 64 :], f"noise from byte {at}"),
        lambda: (other or b"other", "another file under this name"),
        lambda: (b"", "an empty file"),
        lambda: flip_bits(content, random),
        lambda: flip_bits(content, random, 0, min(size, 1024)),
    ]
    return random.choice(ways)()


def flip_bits(content: bytes, random: Random, start: int = 0, stop: int | None = None) -> tuple[bytes, str]:
    """One to eight bits between two places are turned over."""
    changed = bytearray(content)
    stop = len(content) if stop is None else stop
    places = sorted(random.randrange(start, max(start + 1, stop)) for _ in range(random.choice((1, 1, 2, 8))))
    for place in places:
        if place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
    return bytes(changed), f"bits flipped in bytes {places}"


def damage_text(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a text file by its lines, letters and encoding."""
    lines = content.split(b"\n")
    one, two = random.randrange(len(lines)), random.randrange(len(lines))
    swapped = list(lines)
    swapped[one], swapped[two] = lines[two], lines[one]
    text = content.decode("utf-8", "replace")
    letter = random.choice(
        (
            "\0",
            "\x1b[2J",
            "\t",
            '"',
            "'",
            ",",
            ";",
            ":",
            "#",
            "\r",
            "\u2028",
            "\ufeff",
            "\ud7ff",
            "ä",
            "{",
            "[",
            "&a",
            "*a",
            "%",
        )
    )
    place = random.randrange(len(text) + 1)
    ways: list[Callable[[], tuple[bytes, str]]] = [
        lambda: (b"\n".join(lines[:one] + lines[one + 1 :]), f"line {one + 1} is missing"),
        lambda: (b"\n".join(lines[: one + 1] + lines[one:]), f"line {one + 1} comes twice"),
        lambda: (b"\n".join(swapped), f"lines {one + 1} and {two + 1} are exchanged"),
        lambda: (b"\n".join(lines[:one]), f"cut off before line {one + 1}"),
        lambda: (content.replace(b"\n", b"\r\n"), "line ends of Windows"),
        lambda: (content.replace(b"\n", b"\r"), "line ends of the first Macintosh"),
        lambda: (b"\xef\xbb\xbf" + content, "a byte order mark in front"),
        lambda: (text.encode("utf-16"), "encoded in UTF-16"),
        lambda: (
            text.encode("utf-8")[:place] + b"\xff\xfe\x80" + text.encode("utf-8")[place:],
            f"no UTF-8 at byte {place}",
        ),
        lambda: (
            (text[:place] + letter + text[place:]).encode("utf-8", "surrogatepass"),
            f"{letter!r} put in at {place}",
        ),
        lambda: (
            (text[:place] + letter * 3000 + text[place:]).encode("utf-8", "surrogatepass"),
            f"{letter!r} 3000 times at {place}",
        ),
        lambda: (content + b"\n" + random.choice(lines), "a line comes again at the end"),
    ]
    return random.choice(ways)()


def nested(depth: int) -> Any:
    """Lists in lists; a dictionary in the middle."""
    value: Any = {"x": 1}
    for _ in range(depth):
        value = [value]
    return value


def odd_value(random: Random, value: Any) -> Any:
    """A value of another size, sign or type than one that was there."""
    if random.random() < 0.5:
        if isinstance(value, bool):
            return random.choice((not value, "yes", 2))
        if isinstance(value, int):
            return random.choice(WHOLE_NUMBERS)
        if isinstance(value, float):
            return random.choice(REALS)
        if isinstance(value, str):
            return random.choice(TEXTS)
        if isinstance(value, list):
            return random.choice((value * 2, value[:-1], value[::-1], [], [value], value * 1000, [None] * len(value)))
    return random.choice(
        (None, True, 0, -1, 10**30, 1e9, math.nan, math.inf, "", "x", [], {}, [[]], {"": None}, nested(20))
    )


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in nested dictionaries and lists."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [path] * bool(path) + [place for key, part in inner for place in places_of(part, (*path, key))]


def damage_values(values: Any, random: Random) -> tuple[Any, str]:
    """Nested values with one or several of them changed, removed, added or renamed."""
    changed, told = copy.deepcopy(values), []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = places_of(changed)
        if not places:
            return odd_value(random, changed), "the whole content"
        *above, key = random.choice(places)
        holder = changed
        for step in above:
            holder = holder[step]
        name = ".".join(str(step) for step in (*above, key))
        way = random.randrange(5)
        if way == 0:
            del holder[key]
            told.append(f"{name} is missing")
        elif way == 1 and isinstance(holder, dict):
            holder[random.choice(("extra", "", f"{key} ", f"{key}s", str(key).upper(), "__class__", "x" * 5000))] = (
                holder[key]
            )
            told.append(f"a key beside {name}")
        elif way == 2 and isinstance(holder, dict):
            holder[random.choice((f"{key}x", "other"))] = holder.pop(key)
            told.append(f"{name} is called otherwise")
        else:
            holder[key] = odd_value(random, holder[key])
            told.append(f"{name} = {repr(holder[key])[:60]}")
    return changed, "; ".join(told)


def damage_json(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a JSON file: of its values, of its text or of its bytes."""
    way = random.random()
    if way < 0.15:
        return damage_bytes(content, random)
    if way < 0.3:
        return damage_text(content, random)
    try:
        values = json.loads(content)
    except ValueError:  # a log, which is a line each
        return damage_text(content, random)
    if way < 0.4:
        depth = random.choice((50, 990, 3000, 100000))
        whole = random.choice((b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))
        if isinstance(values, dict) and random.random() < 0.5:
            key = random.choice(list(values))
            inner = json.dumps({other: value for other, value in values.items() if other != key})[:-1]
            return f"{inner}, {json.dumps(key)}: ".encode() + whole + b"}", f"{key} is {depth} brackets deep"
        return whole, f"{depth} brackets"
    if way < 0.5 and isinstance(values, dict) and values:
        key = random.choice(list(values))
        twice = json.dumps({key: odd_value(random, values[key])})[1:-1]
        return f"{json.dumps(values)[:-1]}, {twice}}}".encode(), f"key {key} comes twice"
    if way < 0.6:
        number = random.choice(("1e999", "-1e999", "NaN", "Infinity", "1" * 5000, "0.1e-400", "1E5"))
        keys = [place for place in places_of(values) if not isinstance(_at(values, place), (dict, list))]
        if keys:
            place = random.choice(keys)
            _put(values, place, "@@")
            return json.dumps(values).replace('"@@"', number).encode(), f"{place} = {number[:20]}"
    changed, told = damage_values(values, random)
    return json.dumps(changed).encode("utf-8", "surrogatepass"), told


def _at(values: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        values = values[step]
    return values


def _put(values: Any, place: tuple[Any, ...], value: Any) -> None:
    _at(values, place[:-1])[place[-1]] = value
