"""Settings files: YAML and tables that people write, read with bounds on size, nesting and repetition.

What a bound refuses takes no memory and no time: a file by its size, text by the events of the parser, before any value
is built. Keys given twice, tags and references that multiply are refused, since a reader would misunderstand them.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from anymri.errors import UserError

__all__ = ["MOST_TABLE_BYTES", "check_file", "parse_yaml", "read_text", "read_yaml"]

#: Bytes of a file of settings; the largest that come with the package have 20,000.
MOST_BYTES = 4 * 2**20
#: Bytes of a table of subjects or lesions.
MOST_TABLE_BYTES = 64 * 2**20
#: Lists within lists, or sections within sections.
MOST_NESTED = 50
#: Values of a file, each counted as often as it is referred to.
MOST_VALUES = 200_000
#: Characters of a number; longer ones take minutes to convert.
LONGEST_NUMBER = 100


def read_text(
    path: Path | str,
    most_bytes: int = MOST_BYTES,
    remedy: str = "give a settings file",
    what: str = "cannot be read",
) -> str:
    """Text of a file in UTF-8.

    Parameters
    ----------
    path : path-like
    most_bytes : int
        Larger files are refused unread.
    remedy, what : str
        End of the messages, and what they say first.

    Raises
    ------
    UserError
        If it is no plain file, too large, cannot be read, or is not text in UTF-8.
    """
    path = Path(path)
    try:
        check_file(path, most_bytes, remedy, what)
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError, as is text of another encoding
        reason = getattr(error, "strerror", None) or "not text in UTF-8"
        raise UserError(f"{path}: {what} ({reason}); {remedy}") from None
    if "\0" in text:
        raise UserError(f"{path}: {what} (holds NUL bytes, is not text); {remedy}")
    return text


def check_file(
    path: Path,
    most_bytes: int = MOST_BYTES,
    remedy: str = "give a settings file",
    what: str = "cannot be read",
) -> None:
    """Refuse what is no plain file (a device and a pipe have no end) or larger than such a file can be.

    Raises
    ------
    UserError
        Then.
    OSError
        If there is no such file.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        kind = "is a folder" if stat.S_ISDIR(facts.st_mode) else "is not a plain file"
        raise UserError(f"{path}: {what} ({kind}); {remedy}")
    if facts.st_size > most_bytes:
        raise UserError(
            f"{path}: has {facts.st_size:,} bytes, more than the {most_bytes:,} that such a file may have; {remedy}"
        )


def read_yaml(path: Path | str, remedy: str = "give a YAML file") -> Any:
    """Plain values of a YAML file.

    Raises
    ------
    UserError
        As `read_text` and `parse_yaml`.
    """
    return parse_yaml(read_text(path, remedy=remedy), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Plain values of YAML text.

    Parameters
    ----------
    text : str
    source : str
        Named at the start of messages.

    Raises
    ------
    UserError
        If it is not YAML, is nested too deeply, has too many values, a key twice, a tag, or a number without end.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, Loader=loader), source)
        node = yaml.compose(text, Loader=loader)
        if node is None:
            return None
        _check_node(node, source, {}, frozenset())
        # The C parser only reads text: values are built by the same code as without it.
        return yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"{source}: not valid YAML{place}; mend the file") from None
    except (ValueError, OverflowError, TypeError, RecursionError) as error:  # a date such as 2001-99-99, a list as key
        raise UserError(f"{source}: holds a value that cannot be read ({error}); quote it") from None


def _check_events(events: Any, source: str) -> None:
    """Refuse nesting, number of values and tags before anything is built."""
    from yaml import events as kinds

    depth = 0
    for count, event in enumerate(events):
        depth += isinstance(event, kinds.CollectionStartEvent)
        depth -= isinstance(event, kinds.CollectionEndEvent)
        line = event.start_mark.line + 1
        if depth > MOST_NESTED:
            raise UserError(f"{source}: line {line} is nested deeper than {MOST_NESTED}; mend the file")
        if count > 2 * MOST_VALUES:
            raise UserError(f"{source}: has more than {MOST_VALUES:,} values; mend the file")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!"):
            raise UserError(f"{source}: line {line} has a tag ({tag[:80]}); write plain values")


def _check_node(node: Any, source: str, known: dict[int, tuple[int, int]], above: frozenset[int]) -> tuple[int, int]:
    """Number and depth of the values below a node, references counted as what they stand for.

    Refuses references that multiply or lead back, and repeated keys.
    """
    import yaml

    line = node.start_mark.line + 1
    if id(node) in above:
        raise UserError(f"{source}: line {line} refers to itself; write plain values")
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.ScalarNode):
        if not node.tag.endswith(":str") and len(node.value) > LONGEST_NUMBER:
            raise UserError(f"{source}: line {line} has a number of {len(node.value):,} characters; mend it")
        return 1, 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, source)
    size = height = 1
    for part in node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]:
        values, depth = _check_node(part, source, known, above | {id(node)})
        size, height = size + values, max(height, depth + 1)
        if size > MOST_VALUES or height > MOST_NESTED:
            what = f"more than {MOST_VALUES:,} values" if size > MOST_VALUES else f"more than {MOST_NESTED} levels"
            raise UserError(f"{source}: line {line} stands for {what}; write plain values")
    known[id(node)] = size, height
    return size, height


def _check_keys(node: Any, source: str) -> None:
    seen = set()
    for key, _ in node.value:
        name = (key.tag, key.value if isinstance(key.value, str) else id(key))
        if name in seen:
            line = key.start_mark.line + 1
            raise UserError(f"{source}: line {line} gives the key {key.value[:80]!r} a second time; remove one")
        seen.add(name)
