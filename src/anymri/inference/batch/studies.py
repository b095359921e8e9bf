"""Studies of a batch: those of a folder, of a BIDS data set or of a table of paths, each with an id of its own."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from anymri.data.datasets.bids import find_sessions
from anymri.data.datasets.layout import check_root, check_subject_id
from anymri.data.datasets.spellings import read_name
from anymri.data.dicom import is_dicom_study
from anymri.data.study_files import find_cases, find_studies, may_hold_images
from anymri.inference.one_study import StudySource
from anymri.modalities import MODALITIES
from anymri.settings_file import MOST_TABLE_BYTES, read_text
from anymri.types import UserError

__all__ = ["BatchStudy", "list_studies", "take_shard"]

#: Columns of a table that name the study, and others that are no sequences; the last are those of `anymri index`.
_ID, _OTHERS, _NOT_USED = (
    ("study", "subject"),
    ("folder", "session", "raw"),
    ("patient", "site", "label", "class_label"),
)
_YES, _NO = ("yes", "true", "1"), ("", "no", "false", "0")
#: Longest id, in bytes: it becomes the name of files.
_LONGEST_ID = 200
_TABLE_REMEDY = "give a folder of studies or a table (.csv)"


@dataclass(frozen=True, kw_only=True)
class BatchStudy:
    """One study of a batch.

    Parameters
    ----------
    name : str
        Its id: the names of its folders, or what the table says. Nothing of a DICOM header.
    source : StudySource or None
        Where its images are; None if that is not known.
    problem : str, default=""
        Why it is not known.
    """

    name: str
    source: StudySource | None
    problem: str = ""


def list_studies(
    given: Path | str, out: Path | str, say: Callable[[str], None] = lambda text: None
) -> list[BatchStudy]:
    """List the studies of a folder or a table; opens no image.

    Parameters
    ----------
    given : path-like
        A BIDS data set (every session is a study), a folder of cases named as nnU-Net does, a folder of studies (every
        folder and zip archive in it, or the studies within these), or a table (CSV) with a line for each study:
        a column ``study``, one column of paths for each sequence, relative to the table, and if need be ``folder``,
        ``session`` and ``raw``.
    out : path-like
        Folder of the results; if it lies in `given`, it is no study.
    say : callable, optional
        Told in a line which folders hold no image and are no studies.

    Returns
    -------
    list of BatchStudy
        Sorted by id. What cannot be a study stays in the list with its problem.

    Raises
    ------
    UserError
        If there is no study, the table is not readable, or two studies have one id.
    """
    given = Path(given)
    if given.is_file() and not is_dicom_study(given):
        studies = _read_table(given)
    else:
        root = check_root(given)
        empty: list[str] = []
        studies = _in_bids(root) or list(_in_folder(root, Path(out).resolve(), empty))
        if empty:
            say(f"no studies, as they hold no image: {', '.join(empty[:8])}{' ...' if len(empty) > 8 else ''}")
        if not studies:
            raise UserError(f"{given}: holds no folder or zip archive of a study; {_TABLE_REMEDY}")
    for study in studies:
        if not study.name.isprintable() or len(study.name.encode()) > _LONGEST_ID:
            raise UserError(
                f"{given}: {study.name[:60]!r} cannot be the id of a study (longer than {_LONGEST_ID} bytes, or with "
                "characters that are not shown); rename the folder, or give a table of paths"
            )
    studies.sort(key=lambda study: study.name)
    for first, second in pairwise(studies):
        if first.name == second.name:
            raise UserError(f"{given}: two studies are called {first.name}; rename one, or give a table of paths")
    return studies


def take_shard(studies: Sequence[BatchStudy], number: int, of: int) -> list[BatchStudy]:
    """The part `number` of `of` (from 1), which follows from the ids alone: other studies do not move a study."""

    def part(study: BatchStudy) -> int:
        return int.from_bytes(hashlib.sha256(study.name.encode()).digest()[:8], "big") % of

    return [study for study in studies if part(study) == number - 1]


# ------------------------------------------------------------------------------------------------------------- folders


def _in_bids(root: Path) -> list[BatchStudy]:
    """A study for each session; a subject without a known image stays in the list."""
    studies: list[BatchStudy] = []
    for subject in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        try:
            sessions = find_sessions(subject)
        except UserError as error:
            studies.append(BatchStudy(name=subject.name, source=None, problem=str(error)))
            continue
        for session, folder in sessions.items():
            name = session if session.startswith("sub-") else f"{subject.name}_{session}"
            studies.append(BatchStudy(name=name, source=StudySource(folder=folder, name=name)))
        if not sessions:
            studies.append(BatchStudy(name=subject.name, source=StudySource(folder=subject)))
    return studies if any(study.source and study.source.name for study in studies) else []


def _in_folder(root: Path, out: Path, empty: list[str]) -> Iterator[BatchStudy]:
    """Studies of a folder; the names of folders without any image are added to `empty`."""
    cases = find_cases(root)
    for case in cases:
        yield BatchStudy(name=case, source=StudySource(folder=root, session=case, name=case))
    for inner in () if cases else sorted(root.iterdir()):
        if inner.name.startswith(".") or inner.resolve() == out:
            continue
        if inner.is_dir() and not is_dicom_study(inner) and not may_hold_images(inner):
            empty.append(inner.name)
        elif inner.is_dir():
            yield from _in_inner(root, inner)
        elif inner.suffix.lower() == ".zip":
            yield BatchStudy(name=inner.stem, source=StudySource(folder=inner, name=inner.stem))


def _in_inner(root: Path, folder: Path) -> list[BatchStudy]:
    """The study that a folder is, or the several that the folders in it are."""
    places = [folder]
    try:
        if not is_dicom_study(folder):
            sessions = list(find_sessions(folder).values())
            found = sessions if len(sessions) > 1 else find_studies(folder)
            places = found if len(found) > 1 else places
    except (UserError, OSError) as error:
        return [BatchStudy(name=folder.name, source=None, problem=_one_line(folder, error))]
    named = [("_".join(place.relative_to(root).parts), place) for place in places]
    return [BatchStudy(name=name, source=StudySource(folder=place, name=name)) for name, place in named]


def _one_line(folder: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None)
    return f"{folder}: cannot be read ({reason}); check it" if reason else str(error)


# --------------------------------------------------------------------------------------------------------------- table


def _read_table(path: Path) -> list[BatchStudy]:
    text = read_text(path, MOST_TABLE_BYTES, _TABLE_REMEDY, what="not a readable table")
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(map(str.strip, row))]
    except csv.Error as error:
        raise UserError(f"{path}: not a readable table ({error}); {_TABLE_REMEDY}") from None
    if len(rows) < 2:
        raise UserError(f"{path}: names no study; write a line with column names and one line for each study")
    columns = _columns(path, [name.strip() for name in rows[0]])
    studies = []
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(columns):  # with a comma lost, every file would be taken for the next sequence
            raise UserError(f"{path}, study {number}: has {len(row)} cells, the header {len(columns)}; mend the line")
        cells = {name: cell.strip() for name, cell in zip(columns, row, strict=True) if cell.strip()}
        studies.append(_read_row(f"{path}, study {number}", cells, path.parent))
    return studies


def _columns(path: Path, header: list[str]) -> list[str]:
    """Columns as ``study``, the other known names, and codes of sequences, whatever their spelling."""
    columns = []
    for name in header:
        plain = name.lower()
        if plain in (*_ID, *_OTHERS, *_NOT_USED):
            columns.append("study" if plain in _ID else plain)
        else:
            code = plain if plain in MODALITIES else read_name(name).code
            if code is None:
                known = ", ".join((*_OTHERS, "t1", "t1c", "t2", "flair"))
                raise UserError(f"{path}: unknown column {name!r}; name the columns study, {known}")
            columns.append(code)
    for name in columns:
        if columns.count(name) > 1:
            raise UserError(f"{path}: has two columns for {name}; remove one")
    if "study" not in columns:
        raise UserError(f"{path}: has no column 'study'; name the first line study,t1,t1c,t2,flair with commas")
    return columns


def _read_row(place: str, cells: dict[str, str], beside: Path) -> BatchStudy:
    name = cells.get("study", "")
    try:
        check_subject_id(name)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    raw = cells.get("raw", "").lower()
    if raw not in (*_YES, *_NO):
        raise UserError(f"{place}: raw = {raw!r} is neither yes nor no; mend the line")
    folder = beside / cells["folder"] if "folder" in cells else None
    files = {
        code: cell if cell.isdigit() and folder is not None else str(beside / cell)
        for code, cell in cells.items()
        if code in MODALITIES
    }
    if folder is None and not files:
        return BatchStudy(name=name, source=None, problem=f"{place}: {name} has no image; name a sequence or a folder")
    if folder is None and "session" in cells:
        raise UserError(f"{place}: a session chooses in a folder, and none is given; leave it out")
    source = StudySource(folder=folder, files=files, session=cells.get("session"), raw=raw in _YES, name=name)
    return BatchStudy(name=name, source=source)
