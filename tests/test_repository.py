"""What belongs together in the repository agrees: versions, links, recipes, mutations, the command's page."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import anymri
from anymri.config import load_run_config
from anymri.methods import METHODS, get_method

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "anymri").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECIPES = [
    path
    for path in sorted((ROOT / "src" / "anymri" / "recipes").rglob("*.yaml"))
    if "method" in yaml.safe_load(path.read_text(encoding="utf-8"))
]


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert version("anymri") == anymri.__version__ == citation["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{anymri.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_constraints_bring_no_cuda_package():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0].lower() for line in lines if not line.startswith("#")]
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton", "torchvision"))]
    assert not [line for line in lines if "+" in line.partition("==")[2] or "@" in line]
    assert "torch" in names


def test_no_path_of_a_machine_is_tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    machine = re.compile(r"(?<![\w./<:-])/(?:root|home|work|opt|Users|mnt|scratch)/\w")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if "/vendor/" in name:
            continue  # a program of others, unchanged: its letters may look like anything
        if not path.is_file() or b"\0" in (content := path.read_bytes()):
            continue  # removed but not committed, or binary
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            if machine.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found


def anchors(page: Path) -> set[str]:
    """Link targets of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.replace("\\", "").lower()) for heading in headings]
    return {text.strip().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{name_of(page)} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{name_of(page)} links to {target}"


def test_the_package_has_one_door():
    """Everything that can be started is a verb of the command; no module writes a file when asked for help."""
    doors = [
        name_of(path) for path in SOURCES if "__main__" in re.findall(r"__name__ == .(\w+).", path.read_text("utf-8"))
    ]
    assert doors == ["src/anymri/cli/__main__.py"]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.name != "CHANGELOG.md":
            assert "python -m anymri" not in text, name_of(page)


@pytest.mark.parametrize("page", [page for page in PAGES if "results" in page.parts], ids=name_of)
def test_commands_of_results_are_whole(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for command in re.findall(r"`[^`]+`", text):
        assert "..." not in command, f"{name_of(page)}: {command} leaves out how the page was made"


def test_every_page_is_reachable_from_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "README.md" and "results" not in page.parts:
            assert str(page.relative_to(ROOT / "docs")) in index


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_every_recipe_loads(recipe: Path):
    config = load_run_config(recipe)
    cls = get_method(config.method.name)
    preset = cls.presets[config.method.preset]
    cls.Config.build({**preset.config, **config.method.config, "preset": config.method.preset})


def test_every_method_has_a_recipe():
    assert {load_run_config(recipe).method.name for recipe in RECIPES} >= set(METHODS)


def test_the_table_of_methods_is_alphabetical_and_names_its_files():
    """A file is called after a method in it; one paper's variants share a file and begin with its name."""
    assert list(METHODS) == sorted(METHODS)
    files = {name: target.removeprefix("anymri.methods.").partition(":")[0] for name, target in METHODS.items()}
    for name, file in files.items():
        assert files[file] == file
        assert name == file or name.startswith(f"{file}_")
    assert set(files.values()) == {path.stem for path in (ROOT / "src/anymri/methods").glob("[!_]*.py")}


def test_nothing_is_left_to_fill_in():
    """What `anymri new-method` marks is filled in before a method is listed."""
    for name in METHODS:
        for path in (
            ROOT / "src" / "anymri" / "methods" / f"{name}.py",
            ROOT / "tests" / "methods" / f"test_{name}.py",
        ):
            assert not path.exists() or "FILL IN" not in path.read_text(encoding="utf-8"), name_of(path)


def test_every_mutation_fits_the_code():
    mutations = load_tool("mutants").read_mutations()
    assert len(mutations) >= 15
    stale = []
    for mutation in mutations:
        source = (ROOT / mutation.file).read_text(encoding="utf-8") if (ROOT / mutation.file).exists() else ""
        try:
            changed = mutation.apply(source)
        except ValueError as error:
            stale.append(str(error))
            continue
        assert changed != source, mutation.name
        ast.parse(changed)
        stale += [
            f"{mutation.name}: no {test}" for test in mutation.tests if not (ROOT / test.partition("::")[0]).exists()
        ]
    assert not stale


def test_the_page_of_the_command_line_is_up_to_date():
    tool = load_tool("write_cli_reference")
    assert tool.PAGE.read_text(encoding="utf-8") == tool.describe_commands(), (
        "run .venv/bin/python tools/write_cli_reference.py"
    )


def test_the_makefile_offers_what_the_pages_promise():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for page in PAGES:
        promised = re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(promised) <= targets, name_of(page)


def test_extras_named_by_the_set_up_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(load_tool("set_up").EXTRAS.split(",")) <= set(project["optional-dependencies"])


def test_test_files_have_names_of_their_own():
    """Pytest imports them by base name; two of one name stop the whole suite."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
