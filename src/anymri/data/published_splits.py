"""Published splits of public data sets, as lists of subject ids with their source.

One JSON file each in ``splits/``: ``name``, ``dataset`` (layout whose ids they are), ``title``, ``source``,
``used_by``, ``note`` and ``folds`` as in ``split.json``. Such lists are facts; nothing else is taken from the
repositories named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from anymri.data.split import PARTS, Split
from anymri.records import RECORD, REINSTALL, check_record, parse_json
from anymri.types import Subject, UserError

__all__ = ["make_published", "published_splits", "read_published"]


def published_splits() -> list[str]:
    """Names of the published divisions, sorted."""
    folder = resources.files("anymri.data") / "splits"
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def read_published(name: str) -> dict[str, Any]:
    """Content of one published division; see the module's text.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    known = published_splits()
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        raise UserError(f"unknown published split {name!r}; {hint}")
    place = resources.files("anymri.data") / "splits" / f"{name}.json"
    values = parse_json(place.read_bytes(), place, REINSTALL)
    check_record(values, _Published, place, REINSTALL)
    return dict(values)


@dataclass(frozen=True, kw_only=True)
class _Published:
    """Content of a file in ``splits/``."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    name: str
    dataset: str
    title: str
    source: str
    used_by: str
    note: str
    folds: list[dict[Literal["train", "validation", "test"], list[str]]]


def make_published(name: str, subjects: Sequence[Subject], *, partial: bool = False, with_leaks: bool = False) -> Split:
    """Divide subjects as a paper did.

    Parameters
    ----------
    name : str
        One of `published_splits`.
    subjects : sequence of Subject
        Those that are in no list stay out of the split.
    partial : bool, default=False
        Whether listed subjects may be missing from the table.
    with_leaks : bool, default=False
        Whether a published division is taken as it is although studies of one patient are in two of its parts.

    Returns
    -------
    Split
        One fold for each division of the list.

    Raises
    ------
    UserError
        If the name is unknown, listed subjects are missing, a part would be empty, or a patient is in two parts.
    """
    values = read_published(name)
    patients = {subject.subject_id: subject.patient or subject.subject_id for subject in subjects}
    listed = {subject_id for fold in values["folds"] for ids in fold.values() for subject_id in ids}
    missing = sorted(listed - patients.keys())
    if missing and (len(missing) == len(listed) or not partial):
        raise UserError(
            f"split {name}: {len(missing)} of its {len(listed)} subjects are not in the table, e.g. {missing[0]!r}; "
            f"index {values['dataset']} whole, or allow a partial split"
        )
    folds = [
        {part: tuple(sorted(s for s in fold[part] if s in patients)) for part in PARTS} for fold in values["folds"]
    ]
    for number, fold in enumerate(folds):
        empty = [part for part in PARTS if not fold[part] and values["folds"][number][part]]
        if empty:
            raise UserError(f"split {name}, fold {number}: no subject of the part {empty[0]!r} is in the table")
    kept = {s: s if with_leaks else patients[s] for s in sorted(listed & patients.keys())}
    try:
        return Split(tuple(folds), None, f"published: {name}", kept)
    except UserError as error:
        raise UserError(f"{error}; so it was published: to take it all the same, allow leaks") from None
