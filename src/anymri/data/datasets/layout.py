"""Folder layouts: a subject is a folder, a file is named by its sequence; what writers of all layouts share."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats import FOREIGN, write_foreign
from anymri.data.geometry import Geometry
from anymri.data.nifti import write_image
from anymri.data.selectors import select
from anymri.files import draft_folder, make_folder, replace_folder
from anymri.moved import hand_on
from anymri.types import Subject, UserError

__all__ = [
    "EXTENSIONS",
    "FolderLayout",
    "check_root",
    "check_subject_id",
    "has_control",
    "make_arrays",
    "native_grid",
    "write_array",
    "write_files",
]

#: Endings of a NIfTI file, the preferred one first.
EXTENSIONS = (".nii.gz", ".nii")


def _nobody_knows(subject_id: str) -> tuple[str, str]:
    """Patient and site of a subject of which nothing but the id is known."""
    return subject_id, ""


@dataclass(frozen=True)
class FolderLayout:
    """One folder per subject, files named ``<folder><separator><suffix>.nii.gz`` or ``<suffix>.nii.gz``.

    Parameters
    ----------
    suffixes : dict of str to str
        Modality code to file suffix. It may lie in a folder of the subject's (``pre/T1``) and hold ``*``; one with
        both is also looked for without its folder.
    label_suffix : str
        Suffix of the label map.
    label_values : dict of int to int
        Our label value to the value in files; empty = the same values, whatever they are.
    expected : str
        What a subject looks like, for the message when none is found.
    separator : str or None, default=None
        Between the folder's name and the suffix, e.g. ``"_"``; None = the file's name is the suffix alone.
    extensions : tuple of str
        Endings of its files; the first is written.
    depth : int, default=2
        How many folders deep below the root subjects may lie.
    group_separator : str or None, default=None
        Where folder names repeat from group to group, the subject's id is ``<group><separator><folder>``; None = the
        folder's name.
    read_values : dict of int to int
        Label value in the file to ours, where the reader must translate; see `anymri.data.formats`.
    written : dict of str to str
        For suffixes with ``*``: the name to write, in which ``{number}`` becomes a number.
    """

    suffixes: Mapping[str, str]
    label_suffix: str
    label_values: Mapping[int, int]
    expected: str
    separator: str | None = None
    extensions: tuple[str, ...] = EXTENSIONS
    depth: int = 2
    group_separator: str | None = None
    read_values: Mapping[int, int] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)

    def file_name(self, subject_id: str, suffix: str) -> str:
        """Name of a subject's file without its extension."""
        return suffix if self.separator is None else f"{subject_id}{self.separator}{suffix}"

    def index(self, root: Path | str, describe: Callable[[str], tuple[str, str]] = _nobody_knows) -> list[Subject]:
        """Find the subjects in `root` and in its folders, `depth` levels deep; opens no image.

        Parameters
        ----------
        root : path-like
            Folder of subject folders, of groups of them (``HGG``, ``LGG``), or one subject's own folder.
        describe : callable
            Subject id to its patient and site; by default the patient is the subject and the site unknown.

        Returns
        -------
        list of Subject
            Sorted by id; a modality without a file has no entry.

        Raises
        ------
        UserError
            If there is no subject, a subject has a label but no image, or two folders have the same name.
        """
        root = check_root(root)
        found: dict[str, Subject] = {}
        inner = {name.split("/")[0] for name in (*self.suffixes.values(), self.label_suffix) if "/" in name}
        for folder in _folders(root, self.depth):
            if any(fnmatchcase(folder.name, pattern) for pattern in inner):
                continue  # a folder inside of a subject's
            subject = self.read(folder, describe, self._subject_id(root, folder))
            if subject is None:
                continue
            if subject.subject_id in found:
                raise UserError(f"{folder}: a second folder of this name was found; subject names must be unique")
            found[subject.subject_id] = subject
        if not found:
            raise UserError(f"{root}: no subject found; expected {self.expected}")
        return [found[name] for name in sorted(found)]

    def _subject_id(self, root: Path, folder: Path) -> str:
        parents = folder.relative_to(root).parts[:-1]
        if self.group_separator is None or not parents:
            return folder.name
        return f"{parents[-1]}{self.group_separator}{folder.name}"

    def _folder(self, root: Path, subject_id: str) -> Path:
        """Where a subject is written."""
        check_subject_id(subject_id)
        return root.joinpath(*subject_id.split(self.group_separator, 1)) if self.group_separator else root / subject_id

    def read(
        self, folder: Path, describe: Callable[[str], tuple[str, str]] = _nobody_knows, subject_id: str | None = None
    ) -> Subject | None:
        """The subject in one folder, None if it holds none; its id is the folder's name unless one is given.

        Raises
        ------
        UserError
            If it holds a label map but no image, or two files for one.
        """
        name = folder.name
        images = {code: self._find(folder, self.file_name(name, suffix)) for code, suffix in self.suffixes.items()}
        label = self._find(folder, self.file_name(name, self.label_suffix))
        existing = {code: path for code, path in images.items() if path is not None}
        if existing:
            label = None if label is None else select(label, values=self.read_values)
            return Subject(subject_id or name, existing, label, *describe(subject_id or name))
        if label is not None:
            raise UserError(f"{folder}: holds a label map but no image; remove the folder or add a sequence")
        return None

    def write(
        self,
        root: Path | str,
        subject_id: str,
        volumes: Mapping[str, np.ndarray],
        label: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> Path:
        """Write one subject as int16 images and a uint8 label map, stored axes L, P, S as BraTS has them.

        Parameters
        ----------
        root : path-like
            Created if need be.
        subject_id : str
        volumes : dict of str to ndarray, shape (D, H, W)
            Modality code to intensities, rounded to whole numbers; leave out what was not acquired.
        label : ndarray of int, shape (D, H, W), or None
            0 background, 1 ncr, 2 edema, 3 et.
        spacing_mm : tuple of float, default=(1, 1, 1)
            Voxel size along D, H, W.

        Returns
        -------
        Path
            The subject's folder. It appears complete or not at all; an older one of this layout is replaced.

        Raises
        ------
        ValueError
            If the id cannot be a file name, a modality is not part of the layout, shapes differ, or values do not fit
            int16.
        UserError
            If the folder exists and holds files that are not this layout's.
        """
        folder = self._folder(Path(root), subject_id)
        arrays = make_arrays(volumes, label, self.suffixes, self.label_values)
        self._check_replaceable(folder)
        with replace_folder(folder) as temporary:
            for code, array in arrays.items():
                suffix = self.label_suffix if code == "label" else self.suffixes[code]
                number = 10_000 + zlib.crc32(f"{subject_id} {code}".encode()) % 90_000
                name = self.file_name(folder.name, self.written.get(code, suffix).format(number=number))
                write_array(temporary / f"{name}{self.extensions[0]}", array, native_grid(array.shape, spacing_mm))
        return folder

    def _find(self, folder: Path, stem: str) -> Path | None:
        """The image file ``stem`` in a folder, in the preferred of its formats; None if there is none."""
        if "*" not in stem:
            paths = [folder / f"{stem}{extension}" for extension in self.extensions]
            return next((path for path in paths if path.is_file()), None)
        for pattern in dict.fromkeys((stem, stem.rpartition("/")[2])):
            for extension in self.extensions:
                paths = [path for path in sorted(folder.glob(pattern + extension)) if not path.name.startswith(".")]
                if len(paths) > 1:
                    raise UserError(f"{folder}: {paths[0].name} and {paths[1].name} are the same sequence; remove one")
                if paths:
                    return paths[0]
        return None

    def _check_replaceable(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a file is where the folder should be; choose another folder")
        ours = [
            f"{self.file_name(folder.name, suffix)}{extension}"
            for suffix in (*self.suffixes.values(), self.label_suffix)
            for extension in (*self.extensions, ".raw")
        ]
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        foreign = [name for name in files if not any(fnmatchcase(name, pattern) for pattern in ours)]
        if foreign:
            raise UserError(f"{folder}: holds {foreign[0]!r}, which is not ours to replace; choose another folder")


# --------------------------------------------------------------------------------------------------------------
# What writers of every layout share
# --------------------------------------------------------------------------------------------------------------


def make_arrays(
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None,
    known: Mapping[str, Any],
    label_values: Mapping[int, int],
) -> dict[str, NDArray[Any]]:
    """Arrays as they are stored: modality code, and ``"label"``, to int16 intensities or uint8 labels.

    Parameters
    ----------
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
    known : dict of str to anything
        Its keys are the modalities that the layout has.
    label_values : dict of int to int
        Our label value to the value in files; empty = the same.

    Raises
    ------
    ValueError
        If a modality is unknown, there is none, shapes differ, or a value cannot be stored.
    """
    unknown = [code for code in volumes if code not in known]
    if unknown or not volumes:
        raise ValueError(f"cannot write {unknown or 'nothing'}; this layout has {', '.join(known)}")
    arrays: dict[str, NDArray[Any]] = {code: _as_int16(volume, code) for code, volume in volumes.items()}
    if label is not None:
        arrays["label"] = _recode(np.asarray(label), label_values)
    if len({array.shape for array in arrays.values()}) != 1:
        raise ValueError("the volumes of a subject differ in shape")
    return arrays


def write_array(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write one volume (D, H, W) in the format of its name; folders are made as needed."""
    make_folder(path.parent)
    if path.suffix in FOREIGN:
        write_foreign(path, array, geometry)
    else:
        write_image(path, array, geometry)


def write_files(root: Path, files: Mapping[str, NDArray[Any]], spacing_mm: tuple[float, float, float]) -> None:
    """Write the volumes of one subject where subjects share folders; each file appears whole, after all were written.

    Parameters
    ----------
    root : Path
    files : dict of str to ndarray, shape (D, H, W)
        Path relative to `root` to volume.
    spacing_mm : tuple of float
        Voxel size along D, H, W.
    """
    with draft_folder(root / next(iter(files))) as draft:
        for name, array in files.items():
            write_array(draft / name, array, native_grid(array.shape, spacing_mm))
        for name in files:
            make_folder((root / name).parent)
            (draft / name).replace(root / name)


def check_root(root: Path | str) -> Path:
    """The folder of a data set, as a path whose last part is a name.

    Raises
    ------
    UserError
        If it is not an existing folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: {'not a folder' if root.exists() else 'does not exist'}; give the data set's folder")
    return root if root.name not in ("", "..") else root.resolve()


def has_control(text: str) -> bool:
    """Whether a text holds control characters, as damage leaves them and no person types."""
    return any(unicodedata.category(character) == "Cc" for character in text)


def check_subject_id(subject_id: str) -> None:
    """Refuse an id that cannot be a file name.

    Raises
    ------
    ValueError
        If it is empty, starts with a dot or holds a path separator or control character.
    """
    if not subject_id or subject_id[0] == "." or has_control(subject_id) or set(subject_id) & set("/\\"):
        raise ValueError(f"{subject_id!r} cannot name a subject: it must be usable as a file name")


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders in it, `depth` levels deep; hidden ones (unfinished writes among them) are left out."""
    yield root
    level = [root]
    for _ in range(depth):
        level = [path for folder in level for path in sorted(folder.iterdir())]
        level = [path for path in level if path.is_dir() and not path.name.startswith(".")]
        yield from level


def _as_int16(volume: np.ndarray, code: str) -> np.ndarray:
    volume = np.asarray(volume)
    if volume.ndim != 3:
        raise ValueError(f"{code} has {volume.ndim} axes, expected (D, H, W)")
    rounded = np.rint(volume)
    limits = np.iinfo(np.int16)
    if not (np.isfinite(rounded).all() and rounded.min() >= limits.min and rounded.max() <= limits.max):
        raise ValueError(f"{code} has values that do not fit 16-bit integers")
    return rounded.astype(np.int16)


def _recode(label: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    values = values or {value: value for value in range(1, 256)}
    unknown = set(np.unique(label).tolist()) - {0, *values}
    if unknown:
        raise ValueError(f"label {min(unknown)} is unknown; known: 0 to {max(values)}")
    table = np.zeros(max(values) + 1, dtype=np.uint8)
    for ours, theirs in values.items():
        table[ours] = theirs
    return table[label.astype(np.intp)]


def native_grid(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Geometry:
    """Grid of a (D, H, W) shape with stored axes L, P, S and the origin that BraTS gives its 240 x 240 x 155 grid."""
    depth, height, width = spacing_mm
    affine = np.diag([-width, -height, depth, 1.0])
    affine[1, 3] = (shape[1] - 1) * height
    return Geometry(affine, (shape[2], shape[1], shape[0]))


__getattr__ = hand_on(__name__)
