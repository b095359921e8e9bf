"""Print runs of equal code lines that two files of the package share; tests/test_structure.py holds their number.

    python tools/duplicates.py [FOLDER]

A run is at least eight equal consecutive lines; it ends where the lines differ, so a longer one counts once, and one in
three files counts as three pairs. Compared are lines of code with all spacing removed. Left out are blank lines,
comments, docstrings, imports, the heads of functions and classes (decorators, names, parameters) and lines of nothing
but brackets and commas.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import defaultdict
from itertools import combinations, takewhile
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "anymri"
SHORTEST = 8


class Line(NamedTuple):
    """One line of code: its number in the file and its text without spacing."""

    number: int
    text: str


class Pair(NamedTuple):
    """Two files with the same lines, and where these begin."""

    length: int
    first: Path
    first_line: int
    second: Path
    second_line: int


def code_lines(source: str) -> list[Line]:
    """The lines that are compared."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, _end(node) + 1))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            left_out |= set(range(first, node.body[0].lineno))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out |= set(range(node.lineno, _end(node) + 1))
    texts: dict[int, str] = defaultdict(str)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            for offset, part in enumerate(token.string.splitlines()):
                texts[token.start[0] + offset] += re.sub(r"\s", "", part)
    kept = (number for number in sorted(texts) if number not in left_out and re.search(r"\w", texts[number]))
    return [Line(number, texts[number]) for number in kept]


def _end(node: ast.stmt | ast.expr) -> int:
    return node.end_lineno or node.lineno


def find_pairs(files: dict[Path, str], shortest: int = SHORTEST) -> list[Pair]:
    """Runs of at least `shortest` lines that any two files share, the longest first."""
    lines = {path: code_lines(source) for path, source in sorted(files.items())}
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for path, own in lines.items():
        for i in range(len(own) - shortest + 1):
            places[tuple(line.text for line in own[i : i + shortest])].append((path, i))
    found = []
    for (first, i), (second, j) in (two for same in places.values() for two in combinations(same, 2)):
        ours, theirs = lines[first], lines[second]
        goes_on = i > 0 and j > 0 and ours[i - 1].text == theirs[j - 1].text
        if first != second and not goes_on:
            equal = takewhile(lambda two: two[0].text == two[1].text, zip(ours[i:], theirs[j:], strict=False))
            found.append(Pair(len(list(equal)), first, ours[i].number, second, theirs[j].number))
    return sorted(found, key=lambda pair: (-pair.length, *pair[1:]))


def read_package(package: Path = PACKAGE) -> dict[Path, str]:
    """Source of every module, by its path within the package."""
    return {path.relative_to(package): path.read_text(encoding="utf-8") for path in package.rglob("*.py")}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE)
    pairs = find_pairs(read_package(parser.parse_args().folder))
    for pair in pairs:
        sys.stdout.write(f"{pair.length:4} {pair.first}:{pair.first_line} {pair.second}:{pair.second_line}\n")
    sys.stdout.write(f"{len(pairs)} pairs of {SHORTEST} or more equal lines\n")
