"""Count the modules that hand a setting on by name: the longest way of a parameter, in files.

    python tools/parameter_files.py [--package FOLDER] [NAME...]

A module counts where one of its functions has a parameter of that name, or one of its classes an annotated field.
Names joined by a comma are counted as one setting (each module once).
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "anymri"
SETTINGS = ("window,overlap,patch", "window", "overlap", "patch", "precision", "subsets")


def parameters(source: str) -> set[str]:
    """Names of all parameters of functions and annotated fields of classes in a module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arguments):
            found |= {part.arg for part in (*node.posonlyargs, *node.args, *node.kwonlyargs)}
        elif isinstance(node, ast.ClassDef):
            fields = (part.target for part in node.body if isinstance(part, ast.AnnAssign))
            found |= {field.id for field in fields if isinstance(field, ast.Name)}
    return found


def files_with(names: set[str], package: Path = PACKAGE) -> list[Path]:
    """Modules with at least one of the names, by path within the package."""
    paths = sorted(package.rglob("*.py"))
    return [path.relative_to(package) for path in paths if parameters(path.read_text(encoding="utf-8")) & names]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--package", type=Path, default=PACKAGE)
    parser.add_argument("names", nargs="*", default=SETTINGS, metavar="NAME")
    options = parser.parse_args()
    for name in options.names:
        found = files_with(set(name.split(",")), options.package)
        sys.stdout.write(f"{name}: {len(found)} files: {', '.join(map(str, found))}\n")
