"""Structure of the package: import circles, reachable modules, lengths, repeated lines, the page that shows it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import grimp
import pytest
from test_repository import load_tool

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FUNCTION = 60
LONGEST_MODULE = 450

#: Modules that no command reaches, with the reason for keeping them; a package stands for all inside.
UNREACHABLE = {
    "anymri.benchmark.query": "for Python users: rows of results tables too large for memory",
    "anymri.cli.__main__": "python -m anymri.cli, where the script is not on the path",
    "anymri.evaluation.protocols.normalisation": "for Python users: intensities of published pipelines, on raw images",
    "anymri.losses.review": "for authors of methods: the review's equation (1)",
    "anymri.methods.authors": "anymri import-weights finds a table by the name of its method",
    "anymri.methods._template": "what authors of methods copy",
    "anymri.testing": "the contract suite, which authors of methods subclass in their own tests",
}
#: Functions over the limit as "path:name", and modules over the limit as "path", with the reason.
TOO_LONG: dict[str, str] = {}
#: Circles that exist for type checkers alone: no import of theirs runs.
CIRCLES_OF_TYPES = [
    ["anymri.data.nifti", "anymri.data.same_image"],
    ["anymri.data.study", "anymri.data.study_html"],
    [
        "anymri.inference.other_libraries",
        "anymri.inference.output.first_line",
        "anymri.inference.output.notebook",
        "anymri.inference.output.result",
    ],
    ["anymri.protocol.method", "anymri.protocol.method_html"],
]
#: Runs of eight or more equal lines in two files (tools/duplicates.py). Methods state their own settings: U-HeMIS and
#: U-HVED repeat one training schedule, ACN and SMU-Net the end of preset `tiny` and what both take and give.
REPEATED_PASSAGES = 2

Graph = dict[str, set[str]]


# ---------------------------------------------------------------------------------------------------- imports


@cache
def parse(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def path_of(module: str) -> Path:
    path = ROOT.joinpath("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(typing: bool = False) -> Graph:
    """What each module imports of the package, at the top or inside functions; with `typing`, for type checkers too.

    Only written imports count: that importing ``a.b`` runs ``a/__init__.py`` as well makes no circle.
    """
    graph = grimp.build_graph("anymri", cache_dir=None, exclude_type_checking_imports=not typing)
    return {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}


def reached_from(start: str, graph: Graph) -> set[str]:
    """Modules at the end of at least one step from `start`."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def circles(graph: Graph) -> list[list[str]]:
    """Largest groups of modules in which each imports every other, directly or not."""
    reached = {module: reached_from(module, graph) for module in graph}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in graph
        if module in reached[module]
    }
    return sorted(map(list, groups))


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"d"}, "e": {"a"}}
    assert circles(graph) == [["b", "c"], ["d"]]


def test_no_modules_import_each_other():
    assert circles(imports()) == []


def test_circles_for_type_checkers_are_listed():
    assert circles(imports(typing=True)) == sorted(CIRCLES_OF_TYPES)


# ---------------------------------------------------------------------------------------------------- reachability


def named_by_strings(module: str, modules: set[str]) -> Iterator[str]:
    """Modules that strings name: ``"package.module:Name"`` or ``f"package.{name}"``.

    An f-string reaches the modules of the package that other strings of the file name; if none does, all of them.
    """
    tree = parse(module)
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    yield from ({string.partition(":")[0] for string in strings if ":" in string} & modules)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and isinstance(start := node.values[0], ast.Constant):
            package = str(start.value).removesuffix(".")
            inside = {name for name in modules if name.rpartition(".")[0] == package}
            yield from {name for name in inside if name.rpartition(".")[2] in strings} or inside


def reachable() -> set[str]:
    """Every module that the command ``anymri`` can load."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    start = project["scripts"]["anymri"].partition(":")[0]
    graph = imports()
    known = set(graph)
    loads = {}
    for module, imported in graph.items():
        parent = module.rpartition(".")[0]
        loads[module] = imported | set(named_by_strings(module, known)) | ({parent} if parent else set())
    loads["anymri"] = graph["anymri"]  # its f-string hands packages to those who import anymri, not to the command
    return {start} | reached_from(start, loads)


def test_every_module_is_reachable_from_the_command():
    unreachable = set(imports()) - reachable()
    listed = {name for name in imports() if any(name == top or name.startswith(f"{top}.") for top in UNREACHABLE)}
    assert unreachable - listed == set(), "no command leads here: give it a door, remove it or list it with the reason"
    assert listed - unreachable == set(), "a command does lead here: take it off the list"
    assert set(UNREACHABLE) <= set(imports()), "listed, but gone"


# ---------------------------------------------------------------------------------------------------- size


def lengths() -> dict[str, tuple[int, int]]:
    """Lines and limit of every module, by path, and of every function, by ``path:Class.name``.

    A function counts from ``def`` to its last line without its docstring (a numpydoc one is easily longer than its
    function); a module counts whole.
    """
    found = {}
    for module in imports():
        path = path_of(module)
        name = str(path.relative_to(ROOT))
        found[name] = (len(path.read_text(encoding="utf-8").splitlines()), LONGEST_MODULE)
        for inner, node in functions(parse(module)):
            text = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            found[f"{name}:{inner}"] = (node.end_lineno - node.lineno + 1 - text, LONGEST_FUNCTION)
    return found


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        inner = (
            f"{prefix}{child.name}" if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else ""
        )
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner, child
        yield from functions(child, f"{inner}." if inner else prefix)


def test_nothing_grows_too_long():
    measured = lengths()
    over = {name for name, (lines, limit) in measured.items() if lines > limit}
    told = {name: measured[name] for name in sorted(over - set(TOO_LONG))}
    assert not told, "lines and limit: split it, or list it with the reason"
    assert set(TOO_LONG) - over == set(), "within the limit again, or gone: take it off the list"


def test_every_module_says_what_it_is():
    assert [module for module in imports() if not ast.get_docstring(parse(module))] == []


# ---------------------------------------------------------------------------------------------------- repetition


def test_repeated_lines_are_found():
    tool = load_tool("duplicates")
    body = "\n".join(f"    x{i} = call({i},  x)" for i in range(8))
    first = f'import os\n\n\ndef one(a, b):\n    """Text."""\n{body}\n    return 1\n'
    second = f"class Two:\n    def two(\n        self,\n    ):\n        # why\n{body.replace('    ', '        ')}\n"
    (pair,) = tool.find_pairs({Path("one.py"): first, Path("two.py"): second})
    assert (pair.length, pair.first_line, pair.second_line) == (8, 6, 6)
    assert tool.find_pairs({Path("one.py"): first, Path("two.py"): second.replace("x4", "y4")}) == []
    assert tool.find_pairs({Path("one.py"): first, Path("two.py"): "import os\n" * 8 + "def f(): ...\n" * 8}) == []


def test_passages_are_not_repeated():
    tool = load_tool("duplicates")
    found = [
        f"{pair.first}:{pair.first_line} {pair.second}:{pair.second_line}"
        for pair in tool.find_pairs(tool.read_package())
    ]
    assert len(found) <= REPEATED_PASSAGES, found


def test_files_that_hand_a_setting_on_are_counted(tmp_path: Path):
    tool = load_tool("parameter_files")
    (tmp_path / "a.py").write_text("def f(*, window=1): ...\nprecision = 2\n", encoding="utf-8")
    (tmp_path / "b.py").write_text("class C:\n    precision: str\n    def m(self, overlap): ...\n", encoding="utf-8")
    assert tool.files_with({"window"}, tmp_path) == [Path("a.py")]
    assert tool.files_with({"precision"}, tmp_path) == [Path("b.py")]
    assert tool.files_with({"window", "overlap"}, tmp_path) == [Path("a.py"), Path("b.py")]


# ---------------------------------------------------------------------------------------------------- page and picture


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    return load_tool("write_architecture")


def test_the_page_of_the_architecture_and_its_picture_are_up_to_date(architecture: ModuleType):
    current = architecture.PAGE.read_text(encoding="utf-8")
    assert current == architecture.page(current), "run .venv/bin/python tools/write_architecture.py"
    assert current.count(architecture.START) == current.count(architecture.END) == 1
    picture = architecture.PICTURE.read_text(encoding="utf-8")
    assert picture == architecture.picture(), "run .venv/bin/python tools/write_architecture.py"
    names = {element.text for element in ElementTree.fromstring(picture).iter() if element.text}
    assert names >= {path.stem for path in (ROOT / "src" / "anymri").glob("[!_]*.py")}
    assert names >= {path.parent.name for path in (ROOT / "src" / "anymri").glob("*/__init__.py")}


def test_places_named_on_the_page_exist(architecture: ModuleType):
    places = re.findall(r"`([\w/]+(?:/|\.py))`", architecture.PAGE.read_text(encoding="utf-8"))
    assert len(places) > 20
    assert [place for place in places if not any((root / place).exists() for root in (ROOT, ROOT / "src/anymri"))] == []


def test_arrows_that_follow_from_a_longer_way_are_left_out(architecture: ModuleType):
    imports = {"top": {"left", "right", "base"}, "left": {"base"}, "right": set(), "base": set()}
    edges = architecture.arrows(imports)
    assert edges == [("top", "left"), ("top", "right"), ("left", "base")]
    assert architecture.longest_way(edges) == ["top", "left", "base"]


def test_boxes_of_the_picture_do_not_touch_and_arrows_do_not_cross(architecture: ModuleType):
    floors = [{"a": 200.0, "b": 200.0}, {"c": 150.0}, {"d": 200.0, "e": 200.0}]
    layout = architecture.Layout(floors, [("a", "e"), ("a", "c"), ("b", "d"), ("c", "e")])
    assert layout.crossings() == 0
    for row in layout.rows:
        edges = [(layout.x[node] - layout.half[node], layout.x[node] + layout.half[node]) for node in row]
        assert all(left >= 0 and right <= architecture.WIDTH for left, right in edges)
        assert all(first[1] + architecture.GAP <= second[0] + 1e-6 for first, second in pairwise(edges))


def test_commands_are_followed_into_the_rooms_that_they_import(architecture: ModuleType):
    rooms = architecture.read_rooms()
    assert "predict" in rooms["inference"].commands
    assert "train" in rooms["training"].commands
    assert "models" in rooms["zoo"].commands
    assert "new-method" in rooms["methods"].commands  # by `from anymri import methods`
    assert "train" not in rooms["zoo"].commands
