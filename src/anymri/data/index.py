"""Subject table: made from a folder, written, read, and counted."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from anymri.data.datasets import folder as folder_layout
from anymri.data.datasets import get_dataset
from anymri.data.datasets.layout import check_root, check_subject_id, has_control
from anymri.data.datasets.spellings import image_ending, read_name
from anymri.data.missingness import missingness
from anymri.data.selectors import parse_source, source_files
from anymri.data.study_files import StudyFiles, find_study
from anymri.files import make_folder, replace_file, why_no_file
from anymri.modalities import MODALITIES
from anymri.settings_file import MOST_TABLE_BYTES, read_text
from anymri.types import Subject, UserError

__all__ = [
    "StudyFiles", "find_study", "index_dataset", "missingness", "not_used", "read_subjects", "summarise",
    "write_subjects",
]  # fmt: skip

_COLUMNS = ("subject", "patient", "site", "label")
#: Written where any subject has it.
_CLASS = "class_label"
#: Lines of a table of subjects.
MOST_SUBJECTS = 1_000_000


def index_dataset(
    root: Path | str, dataset: str = "folder", patterns: Mapping[str, str] | None = None
) -> list[Subject]:
    """Find the subjects of a data set; opens no image.

    Parameters
    ----------
    root : path-like
    dataset : str, default="folder"
        A key of `anymri.data.datasets.DATASETS`.
    patterns : dict of str to str, or None
        Modality code or ``"label"`` to a file name pattern, for the layout ``folder`` only; see that module.

    Returns
    -------
    list of Subject
        Sorted by id; a modality that a subject lacks has no entry.

    Raises
    ------
    UserError
        If the layout is unknown, patterns are given to another layout than ``folder``, or no subject is found.
    """
    info = get_dataset(dataset)
    if not patterns:
        return info.index(root)
    if info.index is not folder_layout.index_folder:
        raise UserError(f"--pattern: the layout {dataset} has fixed file names; use --dataset folder")
    return info.index(root, patterns)


#: Folders of a data set in which no sequence is looked for.
_ELSEWHERE = ("derivatives", "sourcedata", "code", "func", "fmap", "eeg", "meg")


def not_used(root: Path | str, subjects: Sequence[Subject]) -> list[str]:
    """What was found in a data set and is not used, or doubtful, a plain sentence each; opens no image.

    Parameters
    ----------
    root : path-like
        Its folder.
    subjects : sequence of Subject
        What `index_dataset` found in it.

    Returns
    -------
    list of str
        First what the layout says of its files, then every other image file, by its path in `root`. Masks and label
        maps, and results of the program, are no surprise and are left out.
    """
    root = check_root(root)
    told = {file: text for subject in subjects for file, text in subject.notes}
    used = {parse_source(path).path for s in subjects for path in (*s.images.values(), s.label) if path is not None}
    sentences = list(told.values())
    for place, folders, files in os.walk(root):
        folder = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if name[0] != "." and name not in _ELSEWHERE and not (folder / name / "result.json").is_file()
        )
        for path in (folder / name for name in sorted(files)):
            if not image_ending(path.name) or path in used or path in told or folder in used:
                continue
            reading = read_name(path.name[: -len(image_ending(path.name))])
            if not reading.mask:
                named = MODALITIES[reading.code].long_name if reading.code else ""
                reason = reading.reason or f"{named} by its name, but name or place are not those of this layout"
                sentences.append(f"{path.relative_to(root).as_posix()}: not used; {why_no_file(path) or reason}")
    return sentences


def summarise(sentences: Sequence[str], shown: int = 5) -> list[str]:
    """Lines for the terminal: how many sentences `not_used` gave, and the first of them."""
    if not sentences:
        return []
    more = [f"  and {len(sentences) - shown} more"] if len(sentences) > shown else []
    head = f"found and not used, or doubtful: {len(sentences)} file{'s' if len(sentences) > 1 else ''}"
    return [head, *(f"  {sentence}" for sentence in sentences[:shown]), *more]


def write_subjects(path: Path | str, subjects: Sequence[Subject]) -> Path:
    """Write the table: subject, patient, site, label, class_label if any is known, then a column for each modality.

    Parameters
    ----------
    path : path-like
        CSV file; paths of images are written relative to its folder.
    subjects : sequence of Subject

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
    codes = [code for code in MODALITIES if any(code in subject.images for subject in subjects)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = [_CLASS] if any(subject.class_label for subject in subjects) else []
    writer.writerow([*_COLUMNS, *classes, *codes])
    for subject in subjects:
        label, *files = (_relative(file, path.parent) for file in (subject.label, *map(subject.images.get, codes)))
        person = [subject.subject_id, subject.patient or subject.subject_id, subject.site, label]
        writer.writerow([*person, *[subject.class_label for _ in classes], *files])
    make_folder(path.parent)
    with replace_file(path) as handle:
        handle.write(text.getvalue().encode())
    return path


def _relative(file: Path | None, folder: Path) -> str:
    if file is None:
        return ""
    try:
        # Folders are resolved, the file is not: a symbolic link keeps the name it was found under.
        return Path(os.path.relpath(file.parent.resolve() / file.name, folder.resolve())).as_posix()
    except ValueError:  # another drive
        return str(file.absolute())


def read_subjects(path: Path | str, *, check_files: bool = True) -> list[Subject]:
    """Read the table that `write_subjects` or a person wrote.

    Parameters
    ----------
    path : path-like
        CSV file with a column ``subject``, any of ``patient``, ``site``, ``label``, ``class_label``, and one of image
        paths for each modality; paths are relative to the table's folder or absolute, an empty cell is a missing
        sequence.
    check_files : bool, default=True
        Whether every file must exist.

    Returns
    -------
    list of Subject
        In the order of the table.

    Raises
    ------
    UserError
        If the table is not readable or a line is wrong; names the line.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: does not exist; make it with `anymri index`")
    remedy = "expected comma-separated text in UTF-8"
    text = read_text(path, MOST_TABLE_BYTES, remedy, what="not a readable table")
    try:
        reader = csv.reader(io.StringIO(text, newline=""))
        rows = list(islice(((reader.line_num, row) for row in reader if any(row)), MOST_SUBJECTS + 2))
    except csv.Error as error:
        raise UserError(f"{path}: not a readable table ({error}); {remedy}") from None
    if len(rows) > MOST_SUBJECTS + 1:
        raise UserError(f"{path}: has more than {MOST_SUBJECTS:,} lines; divide the table")
    if not rows:
        raise UserError(f"{path}: empty; make it with `anymri index`")
    header = [name.strip() for name in rows[0][1]]
    _check_header(path, header)
    subjects: dict[str, Subject] = {}
    for line, row in rows[1:]:
        subject = _read_row(f"{path}, line {line}", header, row, path.parent, check_files)
        if subject.subject_id in subjects:
            raise UserError(f"{path}, line {line}: subject {subject.subject_id!r} comes twice; remove one of the lines")
        subjects[subject.subject_id] = subject
    if not subjects:
        raise UserError(f"{path}: has a header but no subject; make it with `anymri index`")
    return list(subjects.values())


def _check_header(path: Path, header: list[str]) -> None:
    if "subject" not in header:
        raise UserError(
            f"{path}: has no column 'subject'; the first line must be {','.join(_COLUMNS)},t1,... with commas"
        )
    for name in header:
        if header.count(name) > 1:
            raise UserError(f"{path}: has two columns {name!r}; remove one")
        known = [*_COLUMNS, _CLASS, *MODALITIES]
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise UserError(f"{path}: unknown column {name!r}; {hint}")


def _read_row(place: str, header: list[str], row: list[str], folder: Path, check_files: bool) -> Subject:
    if len(row) != len(header):  # fewer, too: with a comma lost, every file would be taken for the next sequence
        remedy = "quote cells that hold a comma" if len(row) > len(header) else "write a comma for every empty cell"
        raise UserError(f"{place}: has {len(row)} cells, the header {len(header)}; {remedy}")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True) if cell.strip()}
    for name, cell in cells.items():
        if has_control(cell):
            raise UserError(f"{place}: {name} holds a control character; the table is damaged, mend the cell")
    subject_id = cells.get("subject", "")
    try:
        check_subject_id(subject_id)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None
    files = {name: folder / cell for name, cell in cells.items() if name == "label" or name in MODALITIES}
    if not files.keys() - {"label"}:
        raise UserError(f"{place}: subject {subject_id!r} has no image; remove the line or name one sequence")
    seen: dict[Path, str] = {}
    for name, file in files.items():
        if file in seen:
            raise UserError(f"{place}: {file} is given as {seen[file]} and as {name}; a file is one of them")
        seen[file] = name
        if check_files and not source_files(file):
            raise UserError(f"{place}: {name} file {file} does not exist; mend the path or leave the cell empty")
    label = files.pop("label", None)
    patient, site, class_label = cells.get("patient", subject_id), cells.get("site", ""), cells.get(_CLASS, "")
    return Subject(subject_id, files, label, patient, site, class_label=class_label)
