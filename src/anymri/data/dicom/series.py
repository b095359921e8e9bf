"""Series of a study: split into acquisitions, classified by their headers, one chosen for each sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anymri.data.dicom.classify import SILENT, Judgement, image_part, judge_header, numeric
from anymri.data.dicom.headers import Frame, describe_damaged, read_headers
from anymri.data.dicom.slices import MAX_REPEATS, MIN_SLICES, Stack, separate_repeats, stack_slices
from anymri.data.dicom.study import check_person, choose_study, is_mri
from anymri.modalities import MODALITIES
from anymri.types import UserError

__all__ = ["Scan", "Series", "choose_series", "describe_unusable", "describe_unused", "scan_series", "scan_study"]

#: Thickness in mm that is taken to cover a brain: the least of its three diameters is about that.
WHOLE_MM = 120.0
#: Usual echo time in ms, to choose between echoes that fit equally: the shortest for T1, the textbook's for the others.
USUAL_ECHO_MS = {"t1": 0.0, "t1c": 0.0, "pd": 20.0, "t2": 90.0, "flair": 120.0}
#: Most reasons that a refusal lists.
LISTED = 5
#: Why a series goes before another, in the order of `_rank`.
_WHY = (
    "it covers more of the head",
    "its header names the sequence",
    "it is original, the other derived",
    "its voxels are smaller",
    "its echo time is nearer to the usual one",
    "of equals the last",
)


@dataclass
class Series:
    """One DICOM series, or one acquisition of a series that holds several, and what is known about it.

    Parameters
    ----------
    number : int
        From 1 on, in the order of the files.
    files : list of Path
    facts : mapping
        Header fields of the first slice; stays in memory.
    modality : str or None, default=None
        Code of the registry, or None where it is not used.
    reason : str
        Why it is this modality, or why it is left out.
    named : str or None, default=None
        Modality that the header tells, also where the series is not used.
    kind : str
        What it is where it is none of the sequences: a noun that takes an s.
    usable : bool, default=False
        Whether it could be used as `named`.
    stack : Stack
        Its slices in order, and what is to be known of them.
    told : bool, default=False
        Whether words of the header, not times alone, name the modality.
    resembles : str or None, default=None
        Modality that words of a series of another kind name.
    """

    number: int
    files: list[Path]
    facts: Mapping[str, Any] = field(repr=False)
    modality: str | None = None
    reason: str = ""
    named: str | None = None
    kind: str = ""
    usable: bool = False
    stack: Stack = field(default_factory=lambda: Stack([]), repr=False)
    told: bool = False
    resembles: str | None = None

    @property
    def frames(self) -> list[Frame]:
        """Slices that are read."""
        return self.stack.frames

    def describe(self) -> dict[str, Any]:
        """What may be written down: nothing of a person."""
        return {"series": self.number, "files": len(self.files), "modality": self.modality, "reason": self.reason}


class Scan(NamedTuple):
    """Series of a study.

    Attributes
    ----------
    series : list of Series
    damaged : int
        Number of DICOM files that could not be read.
    lost : str, default=""
        Which they are, in a sentence with the remedy; empty where there is none.
    """

    series: list[Series]
    damaged: int
    lost: str = ""


def scan_series(folder: Path, overrides: Mapping[str, int] | None = None, session: str | None = None) -> list[Series]:
    """List the series of a study and decide from the headers what each is; see `scan_study`."""
    return scan_study(folder, overrides, session).series


def scan_study(folder: Path, overrides: Mapping[str, int] | None = None, session: str | None = None) -> Scan:
    """List the series of a study and decide from the headers what each is.

    Parameters
    ----------
    folder : Path
        Searched with all its folders.
    overrides : mapping of str to int, optional
        Modality code to number of the series to use for it.
    session : str or None, default=None
        Which of several studies: its number in the list of the refusal, or its date.

    Returns
    -------
    Scan
        All series; `Series.modality` is None and `Series.reason` says why where one is left out. A series whose header
        says nothing has the reason ``"header silent"``. A series that holds several echoes, repeats, or magnitude and
        phase is listed once for each.

    Raises
    ------
    UserError
        If there is no DICOM image, images are of several people, a study has to be chosen, or an
        override names no series.
    """
    frames, damaged = read_headers(folder)
    lost = describe_damaged(damaged, folder) if damaged else ""
    if not frames:
        problem = f" ({lost.partition(';')[0]})" if lost else ""
        raise UserError(f"{folder}: holds no DICOM image{problem}; give the folder or zip archive of one study")
    check_person(folder, frames)
    found = _list_series(choose_study(folder, frames, session, _sequences))
    choose_series(found)
    return Scan(_override(found, overrides or {}, folder), len(damaged), lost)


def _sequences(frames: list[Frame]) -> list[str]:
    """Sequences of the registry in a study."""
    named = {series.named for series in _list_series(frames) if series.usable}
    return [code for code in MODALITIES if code in named]


def _list_series(frames: list[Frame]) -> list[Series]:
    found: list[Series] = []
    for members in _group(frames):
        for series in _part(members):
            series.number = len(found) + 1
            found.append(series)
    return found


def _group(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Frames by series identifier; by number, words and size where each file has one of its own, or none."""
    frames = list(frames)
    identifiers = [str(frame.facts.get("SeriesInstanceUID") or "") for frame in frames]
    sizes = Counter(identifiers)
    fields = ("Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "Rows", "Columns")
    groups: dict[Any, list[Frame]] = {}
    for identifier, frame in zip(identifiers, frames, strict=True):
        tells = identifier and sizes[identifier] > 1
        key = identifier if tells else tuple(str(frame.facts.get(name)) for name in fields)
        groups.setdefault(key, []).append(frame)
    return list(groups.values())


def _part(members: list[Frame]) -> list[Series]:
    """One entry for each acquisition of a series; what is left out whatever its slices is not parted further."""
    if not is_mri(members[0]):
        return [_entry(members, Judgement(None, "is no MRI", None, "series that is no MRI"), problem="is no MRI")]
    parts: dict[Any, list[Frame]] = {}
    echoes = _clusters(members, "EchoTime", 0.2, 0.02)
    inversions = _clusters(members, "InversionTime", 10, 0.05)
    for frame, echo, inversion in zip(members, echoes, inversions, strict=True):
        parts.setdefault((image_part(frame.facts), echo, inversion), []).append(frame)
    count = len({echo for kind, echo, _ in parts if not kind})
    judged = [(judge_header(part[0].facts, echoes=count), part) for part in parts.values()]
    # The images without weighting of a diffusion series look like T2.
    diffusion = next((judgement for judgement, _ in judged if judgement.kind == "diffusion image"), None)
    judged = [(diffusion or judgement, part) for judgement, part in judged]
    left_out: dict[str, list[Frame]] = {}
    entries: list[Series] = []
    for judgement, part in judged:
        if judgement.named is None and judgement.reason != SILENT:
            left_out.setdefault(judgement.kind, []).extend(part)
        else:
            entries += _acquisitions(part, judgement)
    reasons = {judgement.kind: judgement for judgement, _ in judged}
    entries += [_entry(part, reasons[kind], problem=reasons[kind].reason) for kind, part in left_out.items()]
    # The part that the header's words mean goes first.
    return sorted(entries, key=lambda series: (not series.usable, not series.told))


def _clusters(frames: list[Frame], name: str, least: float, share: float) -> list[int]:
    """Number of the cluster that each frame's value of a field is in; values apart by next to nothing are one."""
    values = [numeric(frame.facts.get(name)) or 0.0 for frame in frames]
    steps = np.unique(values)
    new = np.diff(steps) > np.maximum(least, share * steps[:-1])
    place = dict(zip(steps.tolist(), np.concatenate([[0], np.cumsum(new)]).tolist(), strict=True))
    return [int(place[value]) for value in values]


def _acquisitions(frames: list[Frame], judgement: Judgement) -> list[Series]:
    """Entries of one echo: one for each grid, and for each time it was repeated."""
    grids: list[list[Frame]] = []
    for frame in frames:
        grid = next((grid for grid in grids if grid[0].same_grid(frame)), None)
        if grid is None:
            grids.append([frame])
        else:
            grid.append(frame)
    if len(grids) > 1 and max(map(len, grids)) < MIN_SLICES:
        problem = f"incomplete: its {len(frames)} slices lie in {len(grids)} directions or sizes"
        return [_entry(frames, judgement, problem=problem)]
    entries = []
    for grid in grids:
        repeats, dropped = separate_repeats(grid)
        if len(repeats) > MAX_REPEATS:
            entries.append(_entry(grid, judgement, problem=f"a time series of {len(repeats)} images"))
            continue
        notes = [f"copies of slices were dropped ({dropped})"] if dropped else []
        # A few images more are slices made anew, no acquisition of their own.
        anew = sum(len(repeat) for repeat in repeats[1:] if len(repeat) < MIN_SLICES)
        notes += [f"places with images that differ ({anew} too many): the first of each was taken"] if anew else []
        for repeat in [repeats[0], *(repeat for repeat in repeats[1:] if len(repeat) >= MIN_SLICES)]:
            stack = stack_slices(repeat)
            entries.append(_entry(repeat, judgement, stack._replace(notes=(*stack.notes, *notes))))
            notes = []
    return entries


def _entry(frames: list[Frame], judgement: Judgement, stack: Stack | None = None, problem: str = "") -> Series:
    stack = stack or Stack(frames, problem)
    files = list(dict.fromkeys(frame.file for frame in frames))
    usable = judgement.code is not None and not stack.problem
    # A header that contradicts itself is the first thing to say, then what is wrong with the slices.
    contradicts = judgement.named is not None and judgement.code is None
    reason = judgement.reason if contradicts or not stack.problem else stack.problem
    kind = judgement.kind
    # Few slices that no word names are a localiser more often than a sequence.
    unnamed = judgement.reason == SILENT or (judgement.code is not None and not judgement.told)
    if unnamed and stack.problem and (problem or len(frames) < MIN_SLICES or judgement.named is None):
        kind = "incomplete series"
    return Series(
        0,
        files,
        frames[0].facts,
        reason=reason,
        named=judgement.named,
        kind=kind,
        usable=usable,
        stack=stack,
        told=judgement.told,
        resembles=judgement.resembles,
    )


def choose_series(found: list[Series]) -> None:
    """Of several usable series of one modality take the best: whole, named, original, fine; of equals the last.

    Parameters
    ----------
    found : list of Series
        `modality` and `reason` are set.
    """
    for code in dict.fromkeys(series.named for series in found if series.usable):
        rivals = sorted((series for series in found if series.usable and series.named == code), key=_rank)
        rivals[-1].modality = code
        for series in rivals[:-1]:
            series.modality = None
            series.reason = f"duplicate: series {rivals[-1].number} is the {code} used ({_why(rivals[-1], series)})"


def _rank(series: Series) -> tuple[float, bool, bool, float, float, int]:
    covered = min(1.0, series.stack.extent_mm / WHOLE_MM)
    original = "DERIVED" not in [str(part).upper() for part in series.facts.get("ImageType") or []]
    usual = USUAL_ECHO_MS.get(series.named or "", 0.0)
    echo = round(abs((numeric(series.facts.get("EchoTime")) or usual) - usual), 1)
    # Nine tenths are as good as all: slabs are planned with some air, or just short of it.
    whole = 1.0 if covered >= 0.9 else round(covered, 1)
    return whole, series.told, original, -round(series.stack.voxel_mm3, 2), -echo, series.number


def _why(better: Series, worse: Series) -> str:
    differing = (why for why, one, two in zip(_WHY, _rank(better), _rank(worse), strict=True) if one != two)
    return next(differing, _WHY[-1])


def _override(found: list[Series], overrides: Mapping[str, int], folder: Path) -> list[Series]:
    numbers = {series.number: series for series in found}
    for code, number in overrides.items():
        if number not in numbers:
            raise UserError(f"{folder}: has no series {number} for {code}; it has {', '.join(map(str, numbers))}")
        for series in found:
            if series.modality == code:
                series.modality, series.reason = None, "replaced by the user's choice"
        chosen = numbers[number]
        if chosen.stack.problem:
            chosen.stack = _forced(chosen, folder)
        chosen.modality, chosen.reason = code, "chosen by the user"
    return found


def _forced(series: Series, folder: Path) -> Stack:
    """Slices of a series that people chose though it was left out; what is wrong with them is said."""
    repeats = separate_repeats(series.frames)[0]
    one_grid = all(series.frames[0].same_grid(frame) for frame in series.frames)
    if len(repeats) > 1 or not one_grid:
        raise UserError(f"{folder}: series {series.number} is not one volume ({series.reason}); choose another")
    stack = stack_slices(repeats[0])
    return stack._replace(notes=(*stack.notes, *([stack.problem] if stack.problem else [])))


def describe_unused(scan: Scan, wanted: Collection[str], chosen: Collection[str] = ()) -> tuple[str, ...]:
    """Plain sentences on what was there and is not used, and on choices between several.

    Parameters
    ----------
    scan : Scan
    wanted : collection of str
        Codes that the model takes; a series of another kind is counted in one closing sentence.
    chosen : collection of str
        Codes that the user chose, on which nothing is said.
    """
    notes = [note for code in wanted for note in _notes_on(code, scan.series, code in chosen)]
    notes += [scan.lost] if scan.lost else []
    others: Counter[str] = Counter()
    used = {series.modality for series in scan.series}
    for series in scan.series:
        if series.resembles in wanted and series.resembles not in {*used, *chosen}:
            continue  # has its own sentence
        if series.modality is None and (series.kind or series.named not in wanted):
            others[series.kind or _kind_of(series.named)] += 1
        elif series.modality is not None and series.modality not in wanted:
            others[_kind_of(series.modality)] += 1
    if others:
        kinds = ", ".join(f"{count} {kind if count == 1 else _plural(kind)}" for kind, count in others.most_common())
        were = "series was" if others.total() == 1 else "series were"
        notes.append(f"{others.total()} other {were} left out: {kinds}")
    return tuple(notes)


def describe_unusable(scan: Scan, wanted: Collection[str]) -> str:
    """What the series of a study are of which none can be used, why not, and what can be done, for a refusal.

    Parameters
    ----------
    scan : Scan
    wanted : collection of str
        Codes that the model takes; their series come first.
    """
    numbers: dict[str, list[int]] = {}
    for series in sorted(scan.series, key=lambda series: series.named not in wanted):
        name = f"{MODALITIES[series.named].long_name}, " if series.named else ""
        numbers.setdefault(name + series.reason, []).append(series.number)
    parts = [f"series {_listed(of)}: {text}" for text, of in numbers.items()]
    parts = [*parts[:LISTED], *([f"{len(parts) - LISTED} more reasons"] if len(parts) > LISTED else [])]
    parts += [scan.lost] if scan.lost else []
    named = next((series for series in scan.series if series.named in wanted), None)
    remedy = f"give a folder with one of {', '.join(MODALITIES[code].short_name for code in wanted)}"
    if named is not None:
        remedy += f", or name one that is to be used all the same (--series {named.named}={named.number})"
    return f"({'; '.join(parts)}); {remedy}"


def _listed(numbers: Collection[int]) -> str:
    """Numbers in a row: 1, 2 and 5."""
    *first, last = sorted(numbers)
    return f"{', '.join(map(str, first))} and {last}" if first else str(last)


def _notes_on(code: str, found: list[Series], chosen: bool) -> Iterator[str]:
    """Sentences on the series of one sequence; those that people chose need no reason."""
    name = MODALITIES[code].long_name
    mine = [series for series in found if series.named == code and not series.kind and not chosen]
    usable = sorted((series for series in mine if series.usable), key=_rank)
    used = next((series for series in found if series.modality == code), None)
    if used is not None and used in usable and len(usable) > 1:
        listed = _listed([series.number for series in usable])
        yield f"{name}: series {listed} can be used; {used.number} was taken ({_why(used, usable[-2])})"
    if used is not None and used.named is None and not chosen:
        yield f"{name}: series {used.number} was taken by the look of its image; its header does not tell"
    if used is not None:
        yield from (f"{name}: series {used.number}: {note}" for note in used.stack.notes)
    missed = [series for series in found if series.resembles == code] if used is None and not chosen else []
    for series in [*mine, *missed]:
        if not series.usable and series.modality is None:
            yield f"{name}: series {series.number} is not used: {series.reason}"


def _kind_of(code: str | None) -> str:
    if code is None:
        return "series that its header does not tell"
    name = MODALITIES[code].long_name
    return f"{name[0].lower() + name[1:] if name[1].islower() else name} image"


def _plural(kind: str) -> str:
    """A noun with an s: that of "series" is there already."""
    head, _, rest = kind.partition(" ")
    if head in ("series", "incomplete"):
        return kind.replace("that is", "that are").replace("its header does", "their headers do")
    if kind.startswith(("picture of", "image of")):
        return f"{head}s {rest}"
    return {"spectrum": "spectra"}.get(kind, f"{kind}s")
