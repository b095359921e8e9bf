"""Published settings and published numbers: ``<method>/<dataset>.yaml``.

Numbers from papers live here and nowhere else; they are compared with, never mixed into, results of anymri.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from anymri.bounds import WrongSetting, fill
from anymri.config import RunConfig, validate_run_config
from anymri.errors import UserError
from anymri.settings_file import read_yaml

__all__ = ["PublishedTable", "Recipe", "list_recipes", "load_recipe"]


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One method's rows of a published table.

    Parameters
    ----------
    source, doi, place : str
        Citation and where in it, e.g. ``"Table 3"``.
    metric, unit : str
    targets : tuple of str
        What the columns are: regions or modality codes.
    rows : dict of str to tuple of float, default={}
        Subset, written in the order of the specification, to the value of every target; empty where only the mean
        over all subsets is published.
    printed_mean : tuple of float or None
        The mean row as printed.
    discrepancies : dict of str to str
        Target to what does not add up in print.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: str
    place: str
    metric: str
    unit: str
    targets: tuple[str, ...]
    rows: dict[str, tuple[float, ...]] = field(default_factory=dict)
    doi: str = ""
    printed_mean: tuple[float, ...] | None = None
    discrepancies: dict[str, str] = field(default_factory=dict)

    def mean(self) -> dict[str, float]:
        """Mean over the rows of every target, computed here."""
        columns = zip(*self.rows.values(), strict=True)
        return {target: sum(column) / len(column) for target, column in zip(self.targets, columns, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a paper trained a method on a data set, and what it reports.

    Parameters
    ----------
    run : dict
        Sections ``method`` and ``training`` of a run configuration.
    provenance : dict of str to str
        Setting to ``code``, ``paper`` or ``ours`` and why.
    published : tuple of PublishedTable
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run: dict[str, Any]
    provenance: dict[str, str] = field(default_factory=dict)
    published: tuple[PublishedTable, ...] = ()

    def run_config(self, cache: Path | str, split: Path | str | None = None) -> RunConfig:
        """The settings as a run on one's own copy of the data."""
        return validate_run_config({**self.run, "data": {"cache": cache, "split": split}}, "recipe")


def _folder() -> Path:
    return Path(str(resources.files("anymri") / "recipes"))


def list_recipes() -> list[tuple[str, str]]:
    """Method and data set of every recipe, sorted."""
    names = []
    for path in sorted(_folder().glob("*/*.yaml")):
        # A plain run configuration may lie here too; a recipe is what has published numbers.
        if "published" in read_yaml(path):
            names.append((path.parent.name, path.stem))
    return names


def load_recipe(method: str, dataset: str) -> Recipe:
    """Read one recipe.

    Parameters
    ----------
    method, dataset : str
        As listed by `list_recipes`.

    Raises
    ------
    UserError
        If there is no such recipe or its file does not follow the form.
    """
    path = _folder() / method / f"{dataset}.yaml"
    if not path.is_file():
        known = ", ".join(f"{m}/{d}" for m, d in list_recipes())
        raise UserError(f"no recipe {method}/{dataset}; known: {known}")
    try:
        return fill(Recipe, read_yaml(path))
    except WrongSetting as wrong:
        raise UserError(f"{path}: {wrong.key}: {wrong.reason}; follow recipes/u_hved/brats2018.yaml") from None
