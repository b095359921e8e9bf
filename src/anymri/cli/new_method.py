"""Verb new-method: file, test, recipe and table line, or a package of its own."""

from __future__ import annotations

import keyword
import os
import re
import shlex
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Json, say, writes
from anymri.errors import UserError

__all__ = ["new_method"]

TABLE = Path("src", "anymri", "methods", "__init__.py")
TABLE_STARTS = "METHODS: dict[str, str] = {\n"

# In the texts NAME stands for the registry name, CLASS for the name of the class.
CLAIM = '''

def test_an_absent_sequence_is_a_channel_of_zeros():
    """FILL IN: the method's own claim, by hand or against an independent implementation."""
    method = create("NAME", preset="tiny").eval()
    image = torch.randn(1, 4, 16, 16, 16)
    available = torch.tensor([[True, False, True, False]])
    filled = image.clone()
    filled[:, [1, 3]] = 0.0
    with torch.inference_mode():
        ours = method.predict(image, available).logits
        expected = method.predict(filled, torch.ones_like(available)).logits
    assert torch.equal(ours, expected)
'''
TEST = '''"""CLASS: its own claims; `test_contract.py` checks what every method must do."""

import torch

from anymri.methods import create
'''
PACKAGE_TEST = '''"""CLASS passes the contract of every method, and keeps its own claims."""

import torch

from anymri.methods import create
from anymri.testing import MethodContract


class TestCLASS(MethodContract):
    name = "NAME"
'''
RECIPE = """# NAME, tiny, on DATA.
method:
  name: NAME
  preset: tiny
data:
  cache: FOLDERcache
  split: FOLDERsplit.json
training:
  seed: 0
  epochs: 32
  steps_per_epoch: 50
  batch_size: 2
  patch: [48, 48, 48]
  foreground: 0.0  # a lesion is in nearly every crop anyway; centred on it, networks find one in every window
  ema: 0.99
"""
PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "DISTRIBUTION"
version = "0.1.0"
description = "FILL IN: what it does, in one line"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["anymri"]

[project.optional-dependencies]
test = ["pytest"]

[project.entry-points."anymri.methods"]
NAME = "NAME.method:CLASS"

[tool.hatch.build.targets.wheel]
packages = ["src/NAME"]
"""
README = """# CLASS

FILL IN: what it does, in one line. A method for anymri, in which it is called `NAME`.

```sh
pip install -e '.[test]'
python -m pytest
anymri methods NAME
COMMAND
```
"""


@writes()
def new_method(
    name: Annotated[str, typer.Argument(help="Registry name: small letters, digits and underscores, e.g. my_net.")],
    package: Annotated[
        Path | None, typer.Option("--package", help="Write an installable package of its own to this new folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a method from a small early-fusion U-Net that trains and passes the contract as it stands.

    Inside a checkout of anymri: its file, test, recipe and line in the table of methods. What is yours to fill in is
    marked FILL IN; the guide is docs/how-to/add-a-method.md.

    Example: anymri new-method my_net --package my-net
    """
    from anymri.files import replace_folder
    from anymri.locks import one_writer

    class_name = "".join(part.capitalize() for part in name.split("_"))
    template = _template(name, class_name)
    root = _checkout() if package is None else package
    with one_writer(root / TABLE if package is None else root):
        made = _in_checkout if package is None else _as_package
        files, commands = made(root, name, class_name, template)
        with nullcontext(root) if package is None else replace_folder(root) as place:
            _write(place, files)
    written = [os.path.relpath(root / path) for path in files]
    text = [*(f"wrote {path}" for path in written), "next:", *(f"  {command}" for command in commands)]
    say(as_json, {"folder": root, "files": written, "next": commands}, "\n".join(text))


def _template(name: str, class_name: str) -> str:
    """The template under another name.

    Raises
    ------
    UserError
        If the name is taken or cannot be one.
    """
    from anymri import methods

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UserError(f"{name}: cannot name a method; take small letters, digits and underscores, e.g. my_net")
    if name in methods.list_methods():
        raise UserError(f"{name}: is the name of a method that there is; choose another")
    text = Path(methods.__file__).with_name("_template.py").read_text(encoding="utf-8")
    if re.search(rf"\b{class_name}\b", text):
        raise UserError(f"{name}: its class would be called {class_name}, which means something else; choose another")
    _, _, code = text.removeprefix('"""').partition('"""')
    code = re.sub(r"\bTemplate(Config)?\b", rf"{class_name}\1", code).replace('"_template"', f'"{name}"')
    return f'"""{class_name}: FILL IN what it does, in one line."""{code}'


def _checkout() -> Path:
    """Root of the checkout of anymri that the current folder is in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / TABLE).is_file() and TABLE_STARTS in (folder / TABLE).read_text(encoding="utf-8"):
            return folder
    raise UserError(f"{here}: is not inside a checkout of anymri; change into one, or add --package FOLDER")


def _in_checkout(root: Path, name: str, class_name: str, template: str) -> tuple[dict[Path, str], list[str]]:
    """Texts by path below the root, and the commands that come next there."""
    recipe = Path("src", "anymri", "recipes", "phantom40", f"{name}.yaml")
    data = "the frozen phantom40: 40 training and 10 test subjects at 2 mm"
    table = (root / TABLE).read_text(encoding="utf-8")
    before, _, rest = table.partition(TABLE_STARTS)
    lines, _, after = rest.partition("}\n")
    line = f'    "{name}": "anymri.methods.{name}:{class_name}",\n'
    done = line in lines
    lines = "".join(sorted([*lines.splitlines(keepends=True), line]))
    files = {
        TABLE.with_name(f"{name}.py"): template,
        Path("tests", "methods", f"test_{name}.py"): _filled(TEST + CLAIM, name, class_name),
        recipe: _filled(RECIPE, name, class_name).replace("DATA", data).replace("FOLDER", ""),
    }
    for path in files:
        # The table is written last: what a killed start left is completed.
        begun = (root / path).is_file() and (root / path).read_text(encoding="utf-8") == files[path]
        if (root / path).exists() and (done or not begun):
            raise UserError(f"{root / path}: exists already; choose another name, or remove it")
    cache = "--set data.cache=runs/work/cache --set data.split=runs/work/split.json"
    there = "" if root == Path.cwd() else f"cd {shlex.quote(str(root))} && "
    commands = [
        f"{there}python -m pytest tests/methods -k {name}",
        f"{_make_data('runs/')} && anymri train {recipe} {cache} -o runs/{name}",
        "python tools/write_methods_reference.py",
    ]
    return {**files, TABLE: before + TABLE_STARTS + lines + "}\n" + after}, commands


def _as_package(root: Path, name: str, class_name: str, template: str) -> tuple[dict[Path, str], list[str]]:
    """Texts by path below the root, and the commands that come next there."""
    if find_spec(name) is not None:
        raise UserError(f"{name}: a Python module has this name; choose another")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root}: exists already; choose a new folder")
    train = f"{_make_data()} && anymri train {name}.yaml -o run"
    recipe = RECIPE.replace("DATA", "what `anymri prepare` left in work").replace("FOLDER", "work/")
    texts = {
        "pyproject.toml": PYPROJECT.replace("DISTRIBUTION", name.replace("_", "-")),
        "README.md": README.replace("COMMAND", train),
        f"{name}.yaml": recipe,
        f"src/{name}/__init__.py": '"""CLASS as a method of anymri."""\n',
        f"tests/test_{name}.py": PACKAGE_TEST + CLAIM,
    }
    files = {Path(path): _filled(text, name, class_name) for path, text in texts.items()}
    commands = [f"cd {shlex.quote(str(root))} && pip install -e '.[test]'", "python -m pytest", train]
    return {**files, Path("src", name, "method.py"): template}, commands


def _filled(text: str, name: str, class_name: str) -> str:
    return text.replace("NAME", name).replace("CLASS", class_name)


def _make_data(folder: str = "") -> str:
    """The command that makes six phantoms and a cache of them."""
    return f"anymri phantom {folder}brains -n 6 --seed 1 && anymri prepare {folder}brains -d brats2023 -o {folder}work"


def _write(root: Path, files: dict[Path, str]) -> None:
    """Write all files, or none."""
    from anymri.files import make_folder, replace_file

    paths = [root / path for path in files]
    new = [path for path in paths if not path.exists()]
    folders = {folder for path in paths for folder in path.parents if not folder.exists()}
    try:
        for path, text in zip(paths, files.values(), strict=True):
            make_folder(path.parent)
            with replace_file(path) as file:
                file.write(text.encode())
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        for folder in sorted(folders, reverse=True):  # the inner ones first
            if folder.exists():
                folder.rmdir()
        raise
