"""Frozen phantom data sets: settings and the checksum of every subject."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from anymri.bounds import Seed, WrongSetting, fill
from anymri.data.split import Split, write_split
from anymri.errors import UserError
from anymri.locks import one_writer
from anymri.phantom.dataset import write_subjects
from anymri.phantom.settings import PhantomSettings
from anymri.phantom.subject import checksum, make_subject, subject_id
from anymri.settings_file import read_yaml

__all__ = ["PhantomRecipe", "generate_recipe", "read_recipe", "verify_recipe"]


@dataclass(frozen=True)
class PhantomRecipe:
    """A frozen phantom data set.

    Parameters
    ----------
    name : str
    path : Path
        The recipe's file.
    seed : int
    settings : PhantomSettings
    train, test : int
        Number of subjects: indices 0 to train - 1, then train to train + test - 1.
    layout : str
    sha256 : dict of str to str
        Subject id to `checksum`.
    """

    name: str
    path: Path
    seed: int
    settings: PhantomSettings
    train: int
    test: int
    layout: str
    sha256: dict[str, str]

    def subject_ids(self, part: str) -> list[str]:
        """Ids of the ``train`` or the ``test`` part."""
        start, stop = {"train": (0, self.train), "test": (self.train, self.train + self.test)}[part]
        return [subject_id(index) for index in range(start, stop)]


@dataclass(frozen=True, kw_only=True)
class _RecipeFile:
    """Content of a recipe's file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    seed: Seed
    settings: dict[str, Any]
    train: Annotated[int, Field(ge=0, le=50_000)]
    test: Annotated[int, Field(ge=0, le=50_000)]
    layout: str
    sha256: dict[str, str]


def read_recipe(name_or_path: str | Path) -> PhantomRecipe:
    """Read a recipe that comes with the package (``"phantom40"``) or a file of the same form.

    Raises
    ------
    UserError
        If there is no such recipe or its content is not one.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = Path(str(resources.files("anymri") / "recipes" / f"{name_or_path}.yaml"))
    if not path.exists():
        raise UserError(f"{name_or_path}: no such phantom recipe; give a .yaml file or phantom40")
    values = read_yaml(path, "give a phantom recipe")
    try:
        content = fill(_RecipeFile, values)
        settings = fill(PhantomSettings, content.settings)
    except WrongSetting as wrong:
        reason = f"{wrong.key} = {wrong.value}: {wrong.reason}"
        raise UserError(f"{path}: not a phantom recipe ({reason}); see recipes/phantom40.yaml for the form") from None
    return PhantomRecipe(
        name=content.name,
        path=path,
        seed=content.seed,
        settings=settings,
        train=content.train,
        test=content.test,
        layout=content.layout,
        sha256=content.sha256,
    )


def _compare(recipe: PhantomRecipe, digests: dict[int, str]) -> None:
    for index, digest in sorted(digests.items()):
        name = subject_id(index)
        if recipe.sha256.get(name) != digest:
            raise UserError(
                f"{recipe.path}: {name} was made, but its checksum differs from the frozen one; "
                "install the versions of constraints.txt (numpy, scipy, nilearn)"
            )


def verify_recipe(name_or_path: str | Path, indices: list[int] | None = None) -> int:
    """Make the subjects of a recipe in memory and compare their checksums.

    Parameters
    ----------
    name_or_path : str or path-like
    indices : list of int, optional
        Which subjects; by default all.

    Returns
    -------
    int
        How many agreed.

    Raises
    ------
    UserError
        If one differs, or the recipe cannot be read.
    """
    recipe = read_recipe(name_or_path)
    chosen = range(recipe.train + recipe.test) if indices is None else indices
    for index in chosen:
        _compare(recipe, {index: checksum(make_subject(recipe.seed, index, recipe.settings))})
    return len(chosen)


def generate_recipe(name_or_path: str | Path, out: Path | str, workers: int = 1, progress: bool = True) -> Path:
    """Write the data set of a recipe, compare its checksums, and put its division into ``split.json`` beside it.

    Parameters
    ----------
    name_or_path : str or path-like
        E.g. ``"phantom40"``.
    out : path-like
        Folder of the data set; training and test subjects are listed in its ``split.json``.
    workers : int, default=1
        Processes.
    progress : bool, default=True

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If a checksum differs, or something cannot be read or written.
    """
    recipe = read_recipe(name_or_path)
    parts = {"train": tuple(recipe.subject_ids("train")), "validation": (), "test": tuple(recipe.subject_ids("test"))}
    with one_writer(out):
        digests = write_subjects(
            Path(out),
            range(recipe.train + recipe.test),
            recipe.seed,
            recipe.settings,
            layout=recipe.layout,
            workers=workers,
            progress=progress,
        )
        _compare(recipe, digests)
        write_split(Path(out) / "split.json", Split((parts,), seed=None))
    return Path(out)
