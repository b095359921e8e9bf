"""Source-code hashes: what a number depends on, so that stale numbers are found.

Sources are read, never imported or run. Comments, docstrings, layout and what a method says of itself (``info``) do not
count; everything else of a module does, and so do the modules of the same package that it imports.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

__all__ = ["code_hash", "source_modules"]

OWN = "anymri"


def code_hash(roots: Iterable[str], others: Iterable[str] = ()) -> str | None:
    """Hash of modules.

    Parameters
    ----------
    roots : iterable of str
        Names of modules; what they import from anymri or from their own package counts too, however far.
    others : iterable of str, default=()
        Names of modules that count alone.

    Returns
    -------
    str or None
        16 hexadecimal digits. None if a root has no source file: a notebook, a console, a compiled module.

    Notes
    -----
    Of a package other than anymri, the name and version of its distribution count too.
    """
    roots = list(roots)
    if any(_find(name) is None for name in roots):
        return None
    names = sorted({*source_modules(roots), *others})
    digest = hashlib.sha256()
    for package in sorted({name.partition(".")[0] for name in roots} - {OWN}):
        for distribution in sorted(packages_distributions().get(package, ())):
            digest.update(f"{distribution} {version(distribution)}\n".encode())
    for name in names:
        path = _find(name)
        if path is None:
            raise ValueError(f"no source of {name}")
        digest.update(f"{name}\n{_plain(path)}\n".encode())
    return digest.hexdigest()[:16]


def source_modules(roots: Iterable[str]) -> set[str]:
    """The modules themselves and all that they import, directly or not, from anymri or from their own package.

    Imports inside functions count, those for type checkers do not. A name that a package hands on from one of its
    modules stands for that module.
    """
    found: set[str] = set()
    waiting = list(roots)
    packages = {OWN, *(name.partition(".")[0] for name in waiting)}
    while waiting:
        name = waiting.pop()
        path = _find(name)
        if name in found or path is None:
            continue
        found.add(name)
        for module, attribute in _imports(name, path):
            if module.partition(".")[0] in packages:
                waiting.append(_origin(module, attribute))
    return found


# --------------------------------------------------------------------------------------------------------------
# Modules and files
# --------------------------------------------------------------------------------------------------------------


@cache
def _find(name: str) -> Path | None:
    """Source file of a module, found without importing its parents."""
    top, *rest = name.split(".")
    loaded = sys.modules.get(name)
    if top == "__main__" or (not rest and loaded is not None and getattr(loaded, "__spec__", None) is None):
        return None
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest and spec.origin is not None:
        return Path(spec.origin) if spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _origin(module: str, attribute: str) -> str:
    """Module that ``from module import attribute`` reads in the end."""
    if attribute and _find(f"{module}.{attribute}") is not None:
        return f"{module}.{attribute}"
    path = _find(module)
    if attribute and path is not None and path.name == "__init__.py":
        for source, name in _imports(module, path):
            if name == attribute:
                return _origin(source, name)
    return module


def _imports(name: str, path: Path) -> Iterator[tuple[str, str]]:
    """Pairs of module and imported name (empty for ``import module``)."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _runtime(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def _runtime(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below ``if TYPE_CHECKING``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


# --------------------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------------------


# A process runs the code it read first, whatever is written to the files later: so the first look counts.


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _plain(path: Path) -> str:
    """The code alone: without comments, docstrings and what a class says of itself."""
    tree = _Bare().visit(ast.parse(path.read_bytes()))
    return ast.unparse(tree)


class _Bare(ast.NodeTransformer):
    """Drop statements that do nothing at run time, and ``info = ...`` of classes."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Texts that stand alone are docstrings."""
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Without ``info``."""
        node.body = [one for one in node.body if not _assigns(one, "info")]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Without imports for type checkers."""
        if "TYPE_CHECKING" in ast.unparse(node.test) and not node.orelse:
            return None
        return self.generic_visit(node)


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]
