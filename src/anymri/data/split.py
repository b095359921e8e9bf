"""Division of a data set into training, validation and test parts, by patient.

``split.json`` holds ``{"folds": [{"train": [...], "validation": [...], "test": [...]}, ...], "seed": 0, "kind": ...,
"patients": {subject: patient}}``. No patient is in two parts of a fold; reading checks that again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, NonNegativeInt

from anymri.files import make_folder, replace_file
from anymri.records import RECORD, check_record, read_json, read_record
from anymri.types import Subject, UserError

__all__ = ["PARTS", "Split", "make_split", "nnunet_split", "read_split", "write_split"]

#: Names of the parts, in their order.
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Parts of a data set, once or for each fold of a cross-validation.

    Parameters
    ----------
    folds : tuple of dict of str to tuple of str
        For each fold the sorted subject ids of ``train``, ``validation`` and ``test``.
    seed : int or None
        Of the random division; None for given lists.
    kind : str
        ``"folds"``, ``"fractions"``, ``"lists"`` or ``"published: <name>"``.
    patients : dict of str to str
        Subject id to patient.

    Raises
    ------
    UserError
        If a subject or patient is in two parts of a fold.
    """

    folds: tuple[Mapping[str, tuple[str, ...]], ...]
    seed: int | None = 0
    kind: str = "lists"
    patients: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, fold in enumerate(self.folds):
            _refuse_leak(number, fold, self.patients)

    def part(self, name: str, fold: int = 0) -> tuple[str, ...]:
        """Subject ids of one part.

        Parameters
        ----------
        name : {"train", "validation", "test"}
        fold : int, default=0

        Raises
        ------
        UserError
            If there is no such fold or part.
        """
        if not 0 <= fold < len(self.folds):
            raise UserError(f"fold {fold} does not exist; the split has folds 0 to {len(self.folds) - 1}")
        if name not in self.folds[fold]:
            raise UserError(f"part {name!r} does not exist; the split has {', '.join(self.folds[fold])}")
        return self.folds[fold][name]


def make_split(
    subjects: Sequence[Subject],
    *,
    fractions: Sequence[float] | None = None,
    folds: int | None = None,
    lists: Mapping[str, Sequence[str]] | None = None,
    validation: float = 0.0,
    stratify: str | bool = "",
    seed: int = 0,
) -> Split:
    """Divide subjects so that all studies of a patient stay together.

    Parameters
    ----------
    subjects : sequence of Subject
    fractions : sequence of float or None
        Shares of train, validation and test, of the patients. Used when `folds` and `lists` are None;
        None = 0.7, 0.1, 0.2.
    folds : int or None
        k-fold cross-validation: each patient is in the test part of one fold. As many folds as patients = leave one
        out.
    lists : dict of str to sequence of str, or None
        Subject ids of each part; a part not named is empty.
    validation : float, default=0.0
        With `folds`: share of the patients outside the test part that become the validation part.
    stratify : {"", "site", "sequences"}, default=""
        What every part gets its share of: each site, or each set of sequences that occurs, with and without label map.
        True means ``"site"``.
    seed : int, default=0

    Returns
    -------
    Split

    Raises
    ------
    UserError
        If a part would be empty, shares make no sense, an id is unknown, or a patient would be in two parts.
    """
    patients = {subject.subject_id: subject.patient or subject.subject_id for subject in subjects}
    if lists is not None:
        return _from_lists(lists, patients)
    sites = _strata(subjects, patients, "site" if stratify is True else stratify)
    if folds is not None:
        made = _make_folds(sites, folds, validation, seed)
    else:
        made = [_divide(sites, _named_shares(fractions or (0.7, 0.1, 0.2)), (seed, 0))]
    parts = [
        {
            name: tuple(sorted(s for s, patient in patients.items() if patient in chosen))
            for name, chosen in fold.items()
        }
        for fold in made
    ]
    return Split(tuple(parts), seed, "folds" if folds is not None else "fractions", patients)


def nnunet_split(path: str | Path, subjects: Sequence[Subject]) -> Split:
    """Folds of nnU-Net's ``splits_final.json``: ``[{"train": [...], "val": [...]}, ...]``.

    Parameters
    ----------
    path : path-like
    subjects : sequence of Subject
        Those in neither list of a fold, as the cases of ``imagesTs``, are its test part.

    Returns
    -------
    Split

    Raises
    ------
    UserError
        If the file is not of this form, names a subject that is not in the table, or divides a patient.
    """
    path = Path(path)
    remedy = "give nnU-Net's splits_final.json"
    values = read_json(path, remedy)
    if not isinstance(values, list):
        raise UserError(f'{path}: is not a list of {{"train": [...], "val": [...]}}; {remedy}')
    checked = [check_record(fold, _NnunetFold, f"{path}: fold {number}", remedy) for number, fold in enumerate(values)]
    folds = [(fold.train, fold.val) for fold in checked]
    patients = {subject.subject_id: subject.patient or subject.subject_id for subject in subjects}
    parts = []
    for train, validation in folds:
        unknown = sorted({*train, *validation} - patients.keys())
        if unknown:
            raise UserError(f"{path}: subject {unknown[0]!r} is not in the table of subjects; index the same data set")
        test = patients.keys() - {*train, *validation}
        parts.append(
            {"train": tuple(sorted(train)), "validation": tuple(sorted(validation)), "test": tuple(sorted(test))}
        )
    if not parts:
        raise UserError(f"{path}: holds no fold; give nnU-Net's splits_final.json")
    return Split(tuple(parts), None, "lists", patients)


def _from_lists(lists: Mapping[str, Sequence[str]], patients: Mapping[str, str]) -> Split:
    for name, ids in lists.items():
        if name not in PARTS:
            raise UserError(f"part {name!r} is unknown; known: {', '.join(PARTS)}")
        unknown = [subject_id for subject_id in ids if subject_id not in patients]
        if unknown:
            raise UserError(f"part {name}: subject {unknown[0]!r} is not in the table of subjects")
    fold = {name: tuple(sorted(lists.get(name, ()))) for name in PARTS}
    return Split((fold,), None, "lists", patients)


def _strata(subjects: Sequence[Subject], patients: Mapping[str, str], by: str | bool) -> dict[str, str]:
    """Patient to what is shared out evenly: that of the patient's first study."""
    if by not in ("", False, "site", "sequences"):
        raise UserError(f"stratify {by!r}: unknown; use site or sequences")
    strata: dict[str, str] = {}
    for subject in subjects:
        value = subject.site if by == "site" else ""
        if by == "sequences":
            value = "+".join([*sorted(subject.images), *(["label"] if subject.label is not None else [])])
        strata.setdefault(patients[subject.subject_id], value)
    return strata


def _named_shares(fractions: Sequence[float]) -> dict[str, float]:
    shares = tuple(float(share) for share in fractions)
    if len(shares) != len(PARTS) or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
        raise UserError(
            f"fractions {shares}: must be the shares of {', '.join(PARTS)} and add up to 1, e.g. 0.7,0.1,0.2"
        )
    return dict(zip(PARTS, shares, strict=True))


def _make_folds(sites: Mapping[str, str], folds: int, validation: float, seed: int) -> list[dict[str, set[str]]]:
    if not 2 <= folds <= len(sites):
        raise UserError(f"{folds} folds of {len(sites)} patients: give a number from 2 to {len(sites)}")
    if not 0 <= validation < 1:
        raise UserError(f"validation share {validation}: must be from 0 up to, not including, 1")
    tests = _divide(sites, {str(number): 1 / folds for number in range(folds)}, (seed, 0))
    made = []
    for number, test in enumerate(tests.values()):
        rest = {patient: site for patient, site in sites.items() if patient not in test}
        shares = {"train": 1 - validation, "validation": validation}
        made.append({**_divide(rest, shares, (seed, 1, number)), "test": test})
    return made


def _divide(sites: Mapping[str, str], shares: Mapping[str, float], seed: tuple[int, ...]) -> dict[str, set[str]]:
    """Deal patients, shuffled within their sites, to the part that is furthest behind its share."""
    counts = _whole_counts(len(sites), shares)
    # The order of the table must not matter, only who is in it.
    order = np.random.default_rng(seed).permutation(sorted(sites)).tolist()
    order.sort(key=lambda patient: sites[patient])
    parts: dict[str, set[str]] = {name: set() for name in shares}
    for dealt, patient in enumerate(order, start=1):
        open_parts = [name for name in shares if len(parts[name]) < counts[name]]
        behind = max(open_parts, key=lambda name: counts[name] * dealt / len(order) - len(parts[name]))
        parts[behind].add(patient)
    return parts


def _whole_counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers nearest to the shares of `total` that add up to it (largest remainder)."""
    counts = {name: int(total * share + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - total * shares[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    empty = [name for name, share in shares.items() if share > 0 and counts[name] == 0]
    if empty:
        raise UserError(
            f"{total} patients are too few for a part {empty[0]!r} of {shares[empty[0]]:.0%}; change the shares"
        )
    return counts


def _refuse_leak(number: int, fold: Mapping[str, Sequence[str]], patients: Mapping[str, str]) -> None:
    place: dict[str, tuple[str, str]] = {}
    for name, ids in fold.items():
        if len(set(ids)) != len(ids):
            raise UserError(f"split, fold {number}: a subject is listed twice in {name!r}; remove one")
        for subject_id in ids:
            patient = patients.get(subject_id, subject_id)
            other, first = place.setdefault(patient, (name, subject_id))
            if other != name:
                raise UserError(
                    f"split, fold {number}: patient {patient!r} is in {other!r} ({first}) and {name!r} ({subject_id}); "
                    "a patient must be in one part"
                )


def write_split(path: Path | str, split: Split) -> Path:
    """Write ``split.json``; it appears complete or not at all.

    Parameters
    ----------
    path : path-like
    split : Split

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    path = Path(path)
    values = {
        "kind": split.kind,
        "seed": split.seed,
        "folds": [{name: list(ids) for name, ids in fold.items()} for fold in split.folds],
        "patients": dict(split.patients),
    }
    make_folder(path.parent)
    with replace_file(path) as handle:
        handle.write((json.dumps(values, indent=1) + "\n").encode())
    return path


def read_split(path: Path | str) -> Split:
    """Read ``split.json``, as `write_split` or a person wrote it; only ``folds`` is required.

    Raises
    ------
    UserError
        If it is not readable, has another form, or a patient is in two parts of a fold.
    """
    path = Path(path)
    example = 'make it with `anymri split`, or write {"folds": [{"train": [ids], "validation": [ids], "test": [ids]}]}'
    values = read_record(path, _SplitRecord, example)
    folds = tuple({name: getattr(fold, name) for name in PARTS} for fold in values.folds)
    try:
        return Split(folds, values.seed, values.kind, values.patients)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """Subjects of the parts of one fold."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _SplitRecord:
    """Content of ``split.json``; people write it too, so it has no checksum."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    folds: Annotated[tuple[_Fold, ...], Field(min_length=1)]
    seed: NonNegativeInt | None = None
    kind: str = "lists"
    patients: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _NnunetFold:
    """A fold of nnU-Net's ``splits_final.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = {**RECORD, "extra": "ignore"}

    train: tuple[str, ...]
    val: tuple[str, ...]
