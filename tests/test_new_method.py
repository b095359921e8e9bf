"""`anymri new-method` writes a method that works as it stands, or refuses in one line and writes nothing."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import refused, run

import anymri.files
from anymri.cli import new_method
from anymri.config import load_run_config
from anymri.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def shell(words: list[str], folder: Path, *sources: Path) -> str:
    """Run Python in a folder, with source folders before those that are installed; give what it printed."""
    path = os.pathsep.join([*map(str, sources), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, encoding="utf-8", check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ----------------------------------------------------------------------------------------------------- a package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written package, as installed: what ``pip install`` would note of its entry points lies beside its source."""
    folder = tmp_path_factory.mktemp("package") / "my-net"
    answer = run("new-method", "my_net", "--package", folder, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json["next"]) == 3
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"]["anymri.methods"]
    told = folder / "src" / "my_net-0.1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (told / "entry_points.txt").write_text(f"[anymri.methods]\nmy_net = {points['my_net']}\n")
    return folder


@pytest.mark.slow
def test_a_package_passes_its_contract(package: Path) -> None:
    out = shell(["pytest", "-q", "-p", "no:cacheprovider"], package, package / "src")
    assert "failed" not in out
    assert int(out.rsplit("\n", 2)[-2].split(" passed")[0]) > 25


@pytest.mark.slow
def test_a_package_trains_on_phantoms_with_its_recipe(package: Path) -> None:
    brains, work = package / "brains", package / "work"
    assert run("phantom", brains, "-n", 5, "--spacing", 8, "-q").code == 0
    assert run("prepare", brains, "-d", "brats2023", "-o", work, "-q").code == 0
    short = ["--set", "training.epochs=1", "--set", "training.steps_per_epoch=2"]
    shell(["anymri.cli", "train", "my_net.yaml", *short, "-o", "run"], package, package / "src")
    assert (package / "run" / "model.safetensors").is_file()


# ------------------------------------------------------------------------------------------------- in the checkout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this checkout, as far as a method concerns it; the current folder is below it."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    (tmp_path / "tests" / "methods").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path / "tests")
    return tmp_path


def test_a_checkout_gets_file_test_recipe_and_line(checkout: Path) -> None:
    answer = run("new-method", "real_net2")
    assert answer.code == 0, answer.err
    assert "next:" in answer.out
    before, after = ((root / new_method.TABLE).read_text(encoding="utf-8").splitlines() for root in (ROOT, checkout))
    line = '    "real_net2": "anymri.methods.real_net2:RealNet2",'
    assert [one for one in after if one != line] == before
    place = after.index(line)
    assert after[place - 1] < line < after[place + 1], "not in alphabetical order"
    recipe = load_run_config(checkout / "src" / "anymri" / "recipes" / "phantom40" / "real_net2.yaml")
    assert recipe.method.name == "real_net2"
    files = [checkout / path for path in ("src/anymri/methods/real_net2.py", "tests/methods/test_real_net2.py")]
    for path in files:
        ast.parse(path.read_text(encoding="utf-8"))
    shell(["ruff", "check", *map(str, files)], checkout)
    shell(["ruff", "format", "--check", *map(str, files)], checkout)
    said = shell(["pytest", "-q", "-p", "no:cacheprovider", str(files[1])], checkout, checkout / "src")
    assert "1 passed" in said
    assert "real_net2" in shell(["anymri.cli", "methods"], checkout, checkout / "src")
    refused(run("new-method", "real_net2"), "exists already")


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unet", "is the name of a method"),
        ("My_Net", "small letters"),
        ("my-net", "small letters"),
        ("2net", "small letters"),
        ("class", "small letters"),
        ("method", "would be called Method"),
        ("json", "a Python module has this name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, words: str) -> None:
    refused(run("new-method", name, "--package", tmp_path / "new"), name, words)
    assert not (tmp_path / "new").exists()


def test_what_exists_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run("new-method", "my_net"), "not inside a checkout", "--package")
    (tmp_path / "mine.txt").write_text("mine")
    refused(run("new-method", "my_net", "--package", tmp_path), "exists already")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = anymri.files.replace_file, []

    def replace_file(path: Path):
        if len(written) == 3:
            raise UserError("no space; free some")
        written.append(path)
        return write(path)

    monkeypatch.setattr(anymri.files, "replace_file", replace_file)
    refused(run("new-method", "my_net", "--package", tmp_path / "new" / "er"), "no space")
    assert list(tmp_path.iterdir()) == []
