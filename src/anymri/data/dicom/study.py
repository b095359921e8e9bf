"""Choice of one study: folders with several people or studies are refused, or a choice is asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from anymri.data.dicom.headers import Frame
from anymri.types import UserError

__all__ = ["check_person", "choose_study"]

#: Tells the sequences found in one study.
Name = Callable[[list[Frame]], list[str]]


def check_person(folder: Path, frames: Sequence[Frame]) -> None:
    """Refuse images of several people, judged by every identifying field that is filled in.

    Raises
    ------
    UserError
        With the number of people, never their names.
    """
    people = max(len({_plain(frame, name) for frame in frames} - {""}) for name in _PERSON)
    if people > 1:
        raise UserError(f"{folder}: holds images of {people} patients; give the folder of one patient")


_PERSON = ("PatientID", "PatientName", "PatientBirthDate")


def _plain(frame: Frame, name: str) -> str:
    """A field without case, separators and padding, in which exports of one person differ."""
    return "^".join(re.findall(r"\w+", str(frame.facts.get(name) or "").split("=")[0].casefold()))


def choose_study(folder: Path, frames: list[Frame], choice: str | None, name: Name) -> list[Frame]:
    """Frames of the one study that is to be read, and those that are no MRI.

    Parameters
    ----------
    folder : Path
        For messages.
    frames : list of Frame
    choice : str or None
        Number of the list that the refusal prints, or a date (2024-05-31 or 20240531).
    name : callable
        From the frames of a study to the sequences in it, for the list.

    Raises
    ------
    UserError
        If there are several studies and none, or none of them, was chosen.
    """
    others = [frame for frame in frames if not is_mri(frame)]
    studies = _studies([frame for frame in frames if is_mri(frame)])
    dates = [_date(study[0]) for study in studies]
    if choice is None and len(studies) <= 1:
        return frames
    text = (choice or "").strip()
    digits = text.replace("-", "").replace(".", "")
    matching = [study for study, date in zip(studies, dates, strict=True) if date and date == digits]
    if text.isdigit() and 1 <= int(text) <= len(studies):
        matching = [studies[int(text) - 1]]
    if len(matching) == 1:
        chosen = {id(frame) for frame in [*matching[0], *others]}
        return [frame for frame in frames if id(frame) in chosen]
    listed = "; ".join(
        f"{number}: {_dashed(date)}{_count_series(study)} series, {', '.join(name(study)) or 'nothing known'}"
        for number, (study, date) in enumerate(zip(studies, dates, strict=True), start=1)
    )
    problem = f"has no one study '{text}'" if choice is not None else f"holds {len(studies)} studies"
    raise UserError(f"{folder}: {problem} ({listed}); choose one with --study NUMBER")


def is_mri(frame: Frame) -> bool:
    """Whether a frame is MRI, or does not say."""
    return str(frame.facts.get("Modality") or "").strip().upper() in ("", "MR")


def _studies(frames: list[Frame]) -> list[list[Frame]]:
    """Frames by study identifier and date, the earliest study first."""
    identifiers = [str(frame.facts.get("StudyInstanceUID") or "") for frame in frames]
    files = Counter({(identifier, frame.file) for identifier, frame in zip(identifiers, frames, strict=True)})
    per_study = Counter(identifier for identifier, _ in files)
    # Some programs write a new identifier into every file; that tells nothing.
    useless = len(per_study) > 1 and set(per_study.values()) == {1} and all(frame.index is None for frame in frames)
    dated = {identifier: _date(frame) for identifier, frame in zip(identifiers, frames, strict=True) if _date(frame)}
    studies: dict[tuple[str, str], list[Frame]] = {}
    for identifier, frame in zip(identifiers, frames, strict=True):
        # A file without a date goes with the others of its study.
        key = ("", _date(frame)) if useless else (identifier, _date(frame) or dated.get(identifier, ""))
        studies.setdefault(key, []).append(frame)
    return sorted(studies.values(), key=lambda study: _date(study[0]))


def _date(frame: Frame) -> str:
    return re.sub(r"\D", "", str(frame.facts.get("StudyDate") or ""))


def _dashed(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:]}, " if len(date) == 8 else ""


def _count_series(study: list[Frame]) -> int:
    return len({str(frame.facts.get("SeriesInstanceUID") or "") for frame in study})
