"""Write the table and the picture of docs/explanation/architecture.md; tests/test_structure.py checks both.

Everything comes from the code: rooms (the packages and modules directly in anymri) from the imports, their order from
the layers of the import contract in pyproject.toml, summaries from docstrings, commands from the command itself.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import grimp
import numpy as np
from scipy.optimize import isotonic_regression
from typer.main import get_command

from anymri.benchmark.report.figures import LINES, open_svg, standalone, text

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "explanation" / "architecture.md", ROOT / "docs" / "images" / "architecture.svg"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
ENTRY = PROJECT["project"]["scripts"]["anymri"].partition(":")[0]
START, END = "<!-- Written by tools/write_architecture.py; do not edit. -->", "<!-- End of the written part. -->"


class Room(NamedTuple):
    """A package or module directly in anymri."""

    name: str
    floor: int  #: 1 is the ground
    summary: str  #: first line of its docstring
    parts: list[str]  #: packages inside
    imports: set[str]
    never: set[str]  #: rooms of lower floors that a contract forbids
    commands: list[str]  #: verbs whose own function imports it


# ---------------------------------------------------------------------------------------------------- reading


@cache
def read_rooms() -> dict[str, Room]:
    """All rooms by name, from the highest layer to the lowest.

    Raises
    ------
    ValueError
        If a room stands in no layer of the import contract.
    """
    graph = grimp.build_graph("anymri", cache_dir=None, exclude_type_checking_imports=True)
    existing = {_room(module) for module in graph.modules if module != "anymri"}
    layers = read_layers(existing)
    if missing := existing - {name for layer in layers for name in layer}:
        raise ValueError(f"{', '.join(sorted(missing))}: in no layer; add it to the layers in pyproject.toml")
    imports: dict[str, set[str]] = {name: set() for name in existing}
    for module in graph.modules - {"anymri"}:
        imports[_room(module)] |= {_room(name) for name in graph.find_modules_directly_imported_by(module)}
    commands = commands_by_room()
    rooms = {}
    for place, layer in enumerate(layers):
        below = {name for lower in layers[place + 1 :] for name in lower}
        for name in layer:
            parts = sorted(m for m in graph.modules if m.startswith(f"anymri.{name}.") and graph.find_children(m))
            rooms[name] = Room(
                name,
                len(layers) - place,
                summary(f"anymri.{name}"),
                [part.removeprefix(f"anymri.{name}.") for part in parts],
                imports[name] - {name, ""},
                below & _forbidden(name),
                commands.get(name, []),
            )
    return rooms


def read_layers(existing: set[str]) -> list[list[str]]:
    """Rooms by layer, from the highest to the lowest, as the import contract has them."""
    (lines,) = (contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    layers: list[list[str]] = []
    for line in lines:
        known = {name for layer in layers for name in layer}
        names = [_room(name.strip(" ()")) for name in line.replace(":", "|").split("|")]
        layers.append([name for name in dict.fromkeys(names) if name in existing - known])
    return [layer for layer in layers if layer]


def _forbidden(room: str) -> set[str]:
    contracts = (contract for contract in CONTRACTS if contract["type"] == "forbidden")
    found = (contract["forbidden_modules"] for contract in contracts if f"anymri.{room}" in contract["source_modules"])
    return {_room(name) for names in found for name in names if name.startswith("anymri.") and "*" not in name}


def _room(module: str) -> str:
    return (*module.split("."), "")[1]


def summary(module: str) -> str:
    """First line of a module's docstring as Markdown, without its full stop."""
    return (ast.get_docstring(parse(module)) or "").partition("\n")[0].rstrip(".").replace("``", "`")


@cache
def parse(module: str) -> ast.Module:
    """Source of a module as a tree."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def commands_by_room() -> dict[str, list[str]]:
    """Verbs of the command by each room that their functions import, themselves or through functions beside them."""
    verbs: dict[str, Any] = get_command(import_module(ENTRY).app).commands  # type: ignore[attr-defined]
    found: dict[str, list[str]] = {}
    for verb, command in verbs.items():
        function = inspect.unwrap(command.callback)
        for room in sorted(_rooms_used(function.__module__, function.__name__)):
            found.setdefault(room, []).append(verb)
    return found


def _rooms_used(module: str, function: str) -> set[str]:
    """Rooms other than that of `module` whose names a function uses, itself or through functions of its own room."""
    found, seen, todo = set(), set(), [(module, function)]
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        for source, name in _names_used(*place):
            room = _room(f"{source}.{name}")
            if room == _room(module):
                todo.append((source, name))
            else:
                found.add(room)
    return found


def _names_used(module: str, function: str) -> Iterator[tuple[str, str]]:
    """Pairs of module and name that a function takes from anymri; none if the module has no such function."""
    tree = parse(module)
    own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if function not in own:
        return
    top = {alias: pair for node in tree.body for alias, pair in _imported(node)}
    for node in ast.walk(own[function]):
        yield from (pair for _, pair in _imported(node))
        name = node.id if isinstance(node, ast.Name) else ""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in top:
            source, child = top[node.value.id]
            yield f"{source}.{child}", node.attr
        elif name in top:
            yield top[name]
        elif name in own:
            yield module, name


def _imported(node: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anymri"):
        yield from ((name.asname or name.name, (node.module or "", name.name)) for name in node.names)


# ---------------------------------------------------------------------------------------------------- table


def written_part() -> str:
    """The table of rooms as Markdown, between its two marks."""
    rooms = read_rooms()
    lines = [START, "", "| floor | room | what it is | imports | commands |", "|---|---|---|---|---|"]
    for room in rooms.values():
        imports = _list(room.imports) + (f"; never {_list(room.never)}" if room.never else "")
        lines.append(f"| {room.floor} | **{room.name}** | {room.summary} | {imports} | {_doors(room)} |")
        for part in room.parts:
            lines.append(f"| | {room.name}/{part.replace('.', '/')} | {summary(f'anymri.{room.name}.{part}')} | | |")
    return "\n".join([*lines, "", END])


def _doors(room: Room) -> str:
    """The commands whose functions import a room, else the rooms that do."""
    if room.name == _room(ENTRY):
        return "all"
    users = [other.name for other in read_rooms().values() if room.name in other.imports]
    if room.commands:
        return ", ".join(f"`{verb}`" for verb in room.commands)
    return f"through {_list(users)}" if users else "none"


def _list(names: Any) -> str:
    return ", ".join(name for name in read_rooms() if name in names)


def page(current: str) -> str:
    """The page with its written part made anew; what stands around it stays."""
    before, _, rest = current.partition(START)
    return before + written_part() + rest.partition(END)[2]


# ---------------------------------------------------------------------------------------------------- picture

WIDTH, MARGIN, LEGEND, STEP, BOX, GAP = 880, 28, 44, 84, 54, 30
COLOUR = LINES[0]
BOLD, MONOSPACE = ' font-weight="600"', " font-family=\"ui-monospace,'Liberation Mono',monospace\""

Node = str | tuple[str, str, int]
"""A room, or the bend of an arrow (start, end, row)."""


def arrows(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports between rooms that do not follow from a longer way."""
    below: dict[str, set[str]] = {}
    for name in reversed(imports):  # the lowest first
        below[name] = imports[name].union(*(below[other] for other in imports[name]))
    return [
        (name, other)
        for name, others in imports.items()
        for other in imports
        if other in others and not any(other in below[between] for between in others)
    ]


def longest_way(edges: list[tuple[str, str]]) -> list[str]:
    """Names along the longest chain of arrows; the first of several."""
    ways: dict[str, list[str]] = {}
    for start, end in reversed(edges):  # the lowest first
        way = [start, *ways.get(end, [end])]
        if len(way) >= len(ways.get(start, [])):
            ways[start] = way
    return max(ways.values(), key=len)


class Layout:
    """Places of rooms and of the bends of arrows: few crossings, long arrows and the longest way straight.

    Attributes
    ----------
    rows : list of list of Node
        From top to bottom, each from left to right.
    paths : list of list of Node
        A room, bends and a room for each arrow.
    x : dict
        Middle of every node.
    """

    def __init__(self, widths: list[dict[str, float]], edges: list[tuple[str, str]]) -> None:
        self.rows: list[list[Node]] = [list(names) for names in widths]
        self.half: dict[Node, float] = {name: width / 2 for names in widths for name, width in names.items()}
        level = {name: row for row, names in enumerate(widths) for name in names}
        self.paths: list[list[Node]] = []
        for start, end in edges:
            bends: list[Node] = [(start, end, row) for row in range(level[start] + 1, level[end])]
            for row, bend in enumerate(bends, level[start] + 1):
                self.rows[row].append(bend)
                self.half[bend] = 0.0
            self.paths.append([start, *bends, end])
        self.links = [pair for path in self.paths for pair in pairwise(path)]
        self.straight = set(pairwise(longest_way(edges)))
        self.x: dict[Node, float] = {}
        self._order()
        self._place()

    def _order(self) -> None:
        """Move one node at a time while that lowers the number of crossings, or else the length of arrows."""
        best, better = self._cost(), True
        while better:
            better = False
            for row in self.rows:
                for node, place in [(node, place) for node in list(row) for place in range(len(row))]:
                    before = list(row)
                    row.remove(node)
                    row.insert(place, node)
                    if (cost := self._cost()) < best:
                        best, better = cost, True
                    else:
                        row[:] = before

    def _cost(self) -> tuple[int, float]:
        places = {node: j - (len(row) - 1) / 2 for row in self.rows for j, node in enumerate(row)}
        return self.crossings(), sum((places[start] - places[end]) ** 2 for start, end in self.links)

    def crossings(self) -> int:
        """Number of places where two arrows cross."""
        place = {node: (i, j) for i, row in enumerate(self.rows) for j, node in enumerate(row)}
        ends = [(*place[start], place[end][1]) for start, end in self.links]
        return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in combinations(ends, 2))

    def _place(self) -> None:
        """Draw nodes to their neighbours, row by row, without touching."""
        for row in self.rows:
            self.x |= {node: (i + 0.5) * WIDTH / len(row) for i, node in enumerate(row)}
        for row in [*self.rows, *reversed(self.rows)] * 400:
            self._settle(row)

    def _settle(self, row: list[Node]) -> None:
        half = [self.half[node] for node in row]
        steps = np.cumsum([half[0], *(a + b + GAP for a, b in pairwise(half))])
        pulls = [
            [(self.x[b if a == node else a], self._pull(a, b)) for a, b in self.links if node in (a, b)] for node in row
        ]
        weights = [sum(weight for _, weight in pull) or 1.0 for pull in pulls]
        wanted = [
            sum(x * weight for x, weight in pull) / total if pull else WIDTH / 2
            for pull, total in zip(pulls, weights, strict=True)
        ]
        free = isotonic_regression(np.array(wanted) - steps, weights=weights).x
        self.x |= dict(zip(row, np.clip(free, MARGIN, WIDTH - steps[-1] - half[-1] - 2) + steps, strict=True))

    def _pull(self, start: Node, end: Node) -> float:
        bent = isinstance(start, tuple) and isinstance(end, tuple)
        return 1000.0 if bent or (start, end) in self.straight else 1.0


def picture() -> str:
    """Packages as boxes by floor with arrows for imports; modules that need no package on the ground below."""
    rooms = read_rooms()
    ground = [name for name, room in rooms.items() if not any(map(_is_package, [name, *room.imports]))]
    floors = [
        [*own] for _, own in groupby((rooms[name] for name in rooms if name not in ground), lambda room: room.floor)
    ]
    edges = arrows({room.name: room.imports - set(ground) for own in floors for room in own})
    layout = Layout([{room.name: _width(room) for room in own} for own in floors], edges)
    row_of = {node: row for row, nodes in enumerate(layout.rows) for node in nodes}
    parts = _legend()
    parts += [_arrow([(layout.x[node], _top(row_of[node])) for node in path]) for path in layout.paths]
    for row, own in enumerate(floors):
        parts.append(text((2, _top(row) + BOX / 2 + 4), str(own[0].floor), 12, more=' class="soft"'))
        parts += [_box(room, (layout.x[room.name], _top(row))) for room in own]
    parts += _ground(ground, _top(len(floors)))
    svg = open_svg(WIDTH, _top(len(floors)) + BOX + 4, "The rooms of anymri by floor, with arrows to what each imports")
    return standalone("".join([svg, *parts, "</svg>"]))


def _is_package(room: str) -> bool:
    return (ROOT / "src" / "anymri" / room).is_dir()


def _top(row: int) -> float:
    return LEGEND + STEP * row


def _texts(room: Room) -> list[tuple[str, str]]:
    """Lines of a box with their style."""
    folders = ", ".join(f"{part}/" for part in room.parts if "." not in part)
    lines = [(room.name, BOLD), (folders, ' class="soft"'), (" ".join(room.commands), MONOSPACE)]
    return [line for line in lines if line[0]]


def _width(room: Room) -> float:
    # Widths of letters at their sizes, on the safe side: fonts differ from system to system.
    letters = {BOLD: 9.0, MONOSPACE: 6.9}
    return max(100.0, 24 + max(letters.get(style, 6.3) * len(line) for line, style in _texts(room)))


def _box(room: Room, place: tuple[float, float]) -> str:
    x, y = place
    lines = _texts(room)
    first = y + BOX / 2 + 5 - 7.5 * (len(lines) - 1)
    drawn = [
        text((x, first + 15 * i), line, 14 if style == BOLD else 11, "middle", style)
        for i, (line, style) in enumerate(lines)
    ]
    return _frame(x - _width(room) / 2, y, _width(room)) + "".join(drawn)


def _frame(x: float, y: float, width: float) -> str:
    style = f'rx="6" fill="{COLOUR}" fill-opacity=".1" stroke="{COLOUR}" stroke-opacity=".7"'
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX}" {style}/>'


def _arrow(places: list[tuple[float, float]]) -> str:
    """From below one box to the top of another, straight past the rows between."""
    line = f"M{places[0][0]:.0f} {places[0][1] + BOX:.0f}"
    for (x, y), (next_x, next_y) in pairwise(places):
        middle = (y + BOX + next_y) / 2
        line += f"V{y + BOX:.0f}C{x:.0f} {middle:.0f} {next_x:.0f} {middle:.0f} {next_x:.0f} {next_y:.0f}"
    x, y = places[-1]
    head = f'<path d="M{x - 4:.0f} {y - 8:.0f}h8l-4 8z" fill="currentColor"/>'
    return f'<path d="{line}" fill="none" stroke="currentColor" stroke-opacity=".6" stroke-width="1.3"/>{head}'


def _ground(names: list[str], y: float) -> list[str]:
    told = text((WIDTH / 2, y + 20), "modules for every room above", 11, "middle", ' class="soft"')
    step = WIDTH / len(names)
    return [
        _frame(1, y, WIDTH - 2),
        told,
        *(text((step * (i + 0.5), y + 40), name, 13, "middle", BOLD) for i, name in enumerate(names)),
    ]


def _legend() -> list[str]:
    return [
        text((2, 16), "floor", 12, more=' class="soft"'),
        _arrow([(62, -BOX), (62, 24)]),
        text((74, 16), "imports; left out where longer ways lead there too", 12),
        text((WIDTH - 310, 16), "folders inside", 12, more=' class="soft"'),
        text((WIDTH - 202, 16), "commands that call it", 12, more=MONOSPACE),
    ]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
