"""Subjects of a run and of its stages: who takes part, and why others do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from anymri.config import RunConfig
from anymri.methods import Method
from anymri.types import Role, Stage, UserError

if TYPE_CHECKING:
    from anymri.data.cache import Cache

__all__ = ["StageSubjects", "choose_subjects", "labelled", "part_of_split", "repeated"]


class StageSubjects(NamedTuple):
    """Subjects that take part in one stage.

    Attributes
    ----------
    trained : tuple of str
        Subjects that batches are made of.
    pools : dict of str to tuple of str
        ``complete`` and ``partial``: all that have what the stage needs, for `StepContext.next_batch`.
    left_out : dict of str to str
        Every other subject, and why.
    present : tuple of tuple of bool
        Which sequences each of `trained` has.
    """

    trained: tuple[str, ...]
    pools: dict[Role, tuple[str, ...]]
    left_out: dict[str, str]
    present: tuple[tuple[bool, ...], ...]

    @property
    def reasons(self) -> dict[str, int]:
        """How many are left out for which reason."""
        return dict(Counter(self.left_out.values()))


def choose_subjects(cache: Cache, subjects: Iterable[str], method: Method, stage: Stage) -> StageSubjects:
    """Tell who has what a stage needs and is of the kind that it trains on.

    Parameters
    ----------
    cache : Cache
    subjects : iterable of str
    method : Method
        A label map is needed if it has a head and does not use unlabelled subjects.
    stage : Stage
    """
    needs = method.needs if stage.needs is None else stage.needs
    codes = method.spec.modalities
    needed = {"complete": codes, "any": ()}[needs] if isinstance(needs, str) else needs
    trained: dict[str, tuple[bool, ...]] = {}
    pools: dict[Role, list[str]] = {"complete": [], "partial": []}
    left_out: dict[str, str] = {}
    for subject in subjects:
        entry = cache.entry(subject)
        present = tuple(bool(there) for there in entry.present)
        lacking = [code for code in needed if not present[codes.index(code)]]
        kind: Role = "complete" if all(present) else "partial"
        if lacking:
            left_out[subject] = f"without {'+'.join(lacking)}"
        elif method.head is not None and entry.label is None and "unlabelled" not in method.uses:
            left_out[subject] = "without a label map"
        else:
            pools[kind].append(subject)
            if stage.subjects in ("all", kind):
                trained[subject] = present
            else:
                left_out[subject] = "with every sequence" if kind == "complete" else "with sequences missing"
    kinds = {kind: tuple(names) for kind, names in pools.items()}
    return StageSubjects(tuple(trained), kinds, left_out, tuple(trained.values()))


def part_of_split(config: RunConfig, cache: Cache, part: str) -> tuple[str, ...]:
    """Subjects of one part of the split, which must all be in the cache."""
    data = config.data
    if data.split is None:
        return tuple(cache.subject_ids)
    from anymri.data.split import read_split

    try:
        subjects = read_split(data.split).part(part, data.fold)
    except UserError as error:
        raise error if str(error).startswith(str(data.split)) else UserError(f"{data.split}: {error}") from None
    known = set(cache.subject_ids)
    lacking = [subject for subject in subjects if subject not in known]
    if lacking:
        raise UserError(f"{data.cache}: lacks subject {lacking[0]} of {data.split}; preprocess the same subjects")
    return tuple(subjects)


def labelled(cache: Cache, subjects: Iterable[str]) -> tuple[str, ...]:
    """Those with a label map."""
    return tuple(subject for subject in subjects if cache.entry(subject).label is not None)


def repeated(subjects: tuple[str, ...], repeat: Mapping[str, int]) -> tuple[str, ...]:
    """Every subject as often as the first pattern that fits its id says; once without one."""
    times = {name: next((n for pattern, n in repeat.items() if fnmatchcase(name, pattern)), 1) for name in subjects}
    for pattern in repeat:
        if not any(fnmatchcase(name, pattern) for name in subjects):
            raise UserError(f"data.repeat: no training subject fits {pattern!r}; correct the pattern")
    return tuple(name for name in subjects for _ in range(times[name]))
