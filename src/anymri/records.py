"""Records: JSON that the program writes and reads back, each kind held to a model and to its own checksum.

A record with the key ``format`` is sealed: its key ``sha256`` is over all its other keys, so that a value changed by
hand or by a failing disk is noticed. One model for each kind stands beside the code that reads it; the table of all
kinds is in ``docs/reference/formats.md``.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from anymri.errors import UserError
from anymri.files import replace_file

__all__ = [
    "RECORD",
    "REINSTALL",
    "Digest",
    "check_record",
    "parse_json",
    "read_json",
    "read_lines",
    "read_record",
    "record_text",
    "seal",
    "write_record",
]

#: Configuration of every model: no other keys, no conversion of types, no NaN.
RECORD = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
#: Sha256 in hexadecimal digits.
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

#: What to do where a file of the package itself is wrong.
REINSTALL = "it is part of anymri: install anymri anew"

#: Longest file in bytes, longest text in characters, and deepest nesting that a record may have.
LONGEST_FILE, LONGEST_TEXT, DEEPEST = 2**27, 100_000, 40

Model = TypeVar("Model")


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same plain values with ``sha256`` over them; an older checksum goes."""
    plain = {key: value for key, value in values.items() if key != "sha256"}
    return {**plain, "sha256": hashlib.sha256(_canonical(plain)).hexdigest()}


def write_record(path: Path | str, values: Mapping[str, Any]) -> None:
    """Write a sealed record, whole or not at all.

    Parameters
    ----------
    path : path-like
    values : dict
        Plain JSON values with the key ``format``.

    Raises
    ------
    RefusedWrite
        If the operating system refuses.
    """
    with replace_file(path) as file:
        file.write(record_text(values))


def record_text(values: Mapping[str, Any]) -> bytes:
    """Bytes of a sealed record, for writers of their own."""
    return (json.dumps(seal(values), indent=1) + "\n").encode()


def read_record(path: Path | str, model: type[Model], remedy: str) -> Model:
    """Read a record.

    Parameters
    ----------
    path : path-like
    model : type
        Dataclass with the configuration `RECORD`; where it has a field ``format``, that is a literal number.
    remedy : str
        What the user can do where the file does not fit.

    Returns
    -------
    instance of `model`

    Raises
    ------
    UserError
        If the file cannot be read, is no JSON, does not fit the model or its checksum; names the file and the field.
    """
    return check_record(read_json(path, remedy), model, path, remedy)


def read_json(path: Path | str, remedy: str) -> Any:
    """Plain values of a JSON file that other programs write; `check_record` holds them against a model.

    Raises
    ------
    UserError
        As `parse_json`, or if the file cannot be read.
    """
    return parse_json(_read(path, remedy), path, remedy)


def read_lines(path: Path | str, model: type[Model], remedy: str) -> list[dict[str, Any]]:
    """Read a log with one record a line.

    Parameters
    ----------
    path, model, remedy
        As of `read_record`.

    Returns
    -------
    list of dict
        Plain values of the lines, without those that a kill cut off.

    Raises
    ------
    UserError
        As `read_record`; names the line.
    """
    rows = []
    for number, line in enumerate(_read(path, remedy).splitlines(keepends=True), start=1):
        text, place = line.strip(), f"{path}, line {number}"
        if text.startswith(b"{") and not text.endswith(b"}"):
            continue
        rows.append(parse_json(text, place, remedy))
        check_record(rows[-1], model, place, remedy)
    return rows


def parse_json(text: bytes | str, source: object, remedy: str) -> Any:
    """Plain values of a JSON text.

    Parameters
    ----------
    text : bytes or str
    source : object
        Named at the start of messages, e.g. the file's path.
    remedy : str

    Raises
    ------
    UserError
        If it is no JSON, or holds a key twice, a number that is not finite or has more than 64 bits, a text without
        end, or lists in lists without end.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        values = json.loads(text, parse_int=_whole_number, object_pairs_hook=_object)
        strange = next(_strange(values), None)
    except RecursionError:
        raise UserError(f"{source}: is damaged (nested without end); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{source}: is damaged ({_shorten(str(error))}); {remedy}") from None
    if strange is not None:
        raise UserError(f"{source}: {strange}; {remedy}")
    return values


def check_record(values: Any, model: type[Model], source: object, remedy: str) -> Model:
    """Hold plain values against a model, and against their checksum where they have a ``format``.

    Parameters
    ----------
    values : object
        As `parse_json` gives them.
    model, source, remedy
        As of `read_record` and `parse_json`.

    Raises
    ------
    UserError
        If they do not fit.
    """
    if not isinstance(values, dict):
        raise UserError(f"{source}: is damaged (no JSON object); {remedy}")
    plain = {key: value for key, value in values.items() if key != "sha256"}
    content = _canonical(plain)
    kind: Any = model
    try:
        record: Model = _adapter(kind).validate_json(content)
    except ValidationError as error:
        raise UserError(f"{source}: {_describe(error, remedy)}") from None
    if "format" in values and values["format"] is not None and "sha256" not in values:
        raise UserError(f"{source}: sha256 is missing; {remedy}")
    if "sha256" in values and values["sha256"] != hashlib.sha256(content).hexdigest():
        raise UserError(f"{source}: was changed or damaged after it was written (sha256 does not fit); {remedy}")
    return record


def _read(path: Path | str, remedy: str) -> bytes:
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise UserError(f"{path}: is no plain file; {remedy}")
        if found.st_size > LONGEST_FILE:
            raise UserError(f"{path}: is damaged ({found.st_size} bytes); {remedy}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None


def _canonical(values: Mapping[str, Any]) -> bytes:
    """The one text of plain values, whatever the layout; the order of keys counts, as that of regions does."""
    return json.dumps(values, separators=(",", ":"), allow_nan=False).encode()


@lru_cache(maxsize=64)
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _whole_number(text: str) -> float:
    """A whole number; infinite where it has more than 64 bits, which `_strange` names with its field."""
    return int(text) if len(text) < 20 and abs(int(text)) < 2**63 else math.inf


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)} comes twice")
    return values


def _strange(value: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """What no record holds, with its place."""
    name = _shorten(".".join(place)) or "it"
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{name} is no finite number"
    elif isinstance(value, str) and len(value) > LONGEST_TEXT:
        yield f"{name} is a text of {len(value)} characters"
    elif isinstance(value, (dict, list)):
        if len(place) >= DEEPEST:
            yield f"{_shorten(name)} is nested without end"
            return
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            if len(str(key)) > LONGEST_TEXT:
                yield f"{name} has a key of {len(str(key))} characters"
            yield from _strange(inner, (*place, str(key)))


def _describe(error: ValidationError, remedy: str) -> str:
    """The first problem in words; another format counts most, as it explains all others."""
    problems = error.errors(include_url=False, include_context=True)
    first = min(problems, key=lambda problem: problem["loc"] != ("format",))
    place, kind, value = ".".join(map(str, first["loc"])), first["type"], first["input"]
    if place == "format" and kind == "literal_error" and type(value) is int:
        known = max(int(number) for number in first["ctx"]["expected"].replace(" or ", ", ").split(", "))
        if value > known:
            return f"has format {value}, made by a newer version of anymri (this one reads {known}); update anymri"
        return f"has format {value}, made by an older version of anymri (this one reads {known}); {remedy}"
    if kind in ("missing", "missing_argument"):
        return f"{_shorten(place)} is missing; {remedy}"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown field {_shorten(place)}; {remedy}"
    if kind == "value_error":  # of the model as a whole, in its own words
        return f"{_shorten(place)}{': ' if place else ''}{_shorten(str(first['ctx']['error']))}; {remedy}"
    return f"{_shorten(place)} = {_shorten(repr(value))} does not fit ({first['msg']}); {remedy}"


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
