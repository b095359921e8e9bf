"""Layouts in which a subject is a folder and a file is named by its sequence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymri.data.files import make_folder
from anymri.data.geometry import Geometry
from anymri.data.nifti import write_image
from anymri.types import Subject, UserError

__all__ = ["EXTENSIONS", "FolderLayout", "check_root", "check_subject_id"]

#: Endings of a NIfTI file, the preferred one first.
EXTENSIONS = (".nii.gz", ".nii")


def _nobody_knows(subject_id: str) -> tuple[str, str]:
    """Patient and site of a subject of which nothing but the id is known."""
    return subject_id, ""


@dataclass(frozen=True)
class FolderLayout:
    """One folder a subject, files named ``<folder><separator><suffix>.nii.gz`` or ``<suffix>.nii.gz``.

    Parameters
    ----------
    suffixes : dict of str to str
        Modality code to file suffix.
    label_suffix : str
        Suffix of the label map.
    label_values : dict of int to int
        Our label value to the value in files; empty = the same values, whatever they are.
    expected : str
        What a subject looks like, for the message when none is found.
    separator : str or None, default=None
        Between the folder's name and the suffix, e.g. ``"_"``; None = the file's name is the suffix alone.
    """

    suffixes: Mapping[str, str]
    label_suffix: str
    label_values: Mapping[int, int]
    expected: str
    separator: str | None = None

    def file_name(self, subject_id: str, suffix: str) -> str:
        """Name of a subject's file without its extension."""
        return suffix if self.separator is None else f"{subject_id}{self.separator}{suffix}"

    def index(self, root: Path | str, describe: Callable[[str], tuple[str, str]] = _nobody_knows) -> list[Subject]:
        """Find the subjects in `root`, in its folders and one level deeper; opens no image.

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
        for folder in _folders(root):
            subject = self.read(folder, describe)
            if subject is None:
                continue
            if subject.subject_id in found:
                raise UserError(f"{folder}: a second folder of this name was found; subject names must be unique")
            found[subject.subject_id] = subject
        if not found:
            raise UserError(f"{root}: no subject found; expected {self.expected}")
        return [found[name] for name in sorted(found)]

    def read(self, folder: Path, describe: Callable[[str], tuple[str, str]] = _nobody_knows) -> Subject | None:
        """The subject in one folder, None if it holds none.

        Raises
        ------
        UserError
            If it holds a label map but no image.
        """
        name = folder.name
        images = {code: _find_image(folder, self.file_name(name, suffix)) for code, suffix in self.suffixes.items()}
        label = _find_image(folder, self.file_name(name, self.label_suffix))
        existing = {code: path for code, path in images.items() if path is not None}
        if existing:
            return Subject(name, existing, label, *describe(name))
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
        check_subject_id(subject_id)
        unknown = [code for code in volumes if code not in self.suffixes]
        if unknown or not volumes:
            raise ValueError(f"cannot write {unknown or 'nothing'}; this layout has {', '.join(self.suffixes)}")
        arrays = {self.suffixes[code]: _as_int16(volume, code) for code, volume in volumes.items()}
        if label is not None:
            arrays[self.label_suffix] = _recode(np.asarray(label), self.label_values)
        if len({array.shape for array in arrays.values()}) != 1:
            raise ValueError(f"the volumes of {subject_id} differ in shape")
        folder = Path(root) / subject_id
        self._check_replaceable(folder)
        temporary = folder.with_name(f".{subject_id}.tmp-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        make_folder(temporary)
        try:
            for suffix, array in arrays.items():
                path = temporary / f"{self.file_name(subject_id, suffix)}.nii.gz"
                write_image(path, array, _geometry(array.shape, spacing_mm))
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def _check_replaceable(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder}: a file is where the folder should be; choose another folder")
        ours = {
            f"{self.file_name(folder.name, suffix)}{extension}"
            for suffix in (*self.suffixes.values(), self.label_suffix)
            for extension in EXTENSIONS
        }
        foreign = sorted(set(os.listdir(folder)) - ours) if folder.exists() else []
        if foreign:
            raise UserError(f"{folder}: holds {foreign[0]!r}, which is not ours to replace; choose another folder")


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


def check_subject_id(subject_id: str) -> None:
    """Refuse an id that cannot be a file name.

    Raises
    ------
    ValueError
        If it is empty, starts with a dot or holds a path separator or control character.
    """
    if not subject_id or subject_id[0] == "." or any(c in "/\\" or ord(c) < 32 for c in subject_id):
        raise ValueError(f"{subject_id!r} cannot name a subject: it must be usable as a file name")


def _folders(root: Path) -> Iterator[Path]:
    """`root`, its folders and theirs; hidden ones (unfinished writes among them) are left out."""
    yield root
    for pattern in ("*", "*/*"):
        for path in sorted(root.glob(pattern)):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if path.is_dir() and not hidden:
                yield path


def _find_image(folder: Path, stem: str) -> Path | None:
    """The NIfTI file ``stem`` in a folder, compressed or not; None if there is none."""
    paths = [folder / f"{stem}{extension}" for extension in EXTENSIONS]
    return next((path for path in paths if path.is_file()), None)


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


def _geometry(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Geometry:
    """Grid of a (D, H, W) shape with stored axes L, P, S and the origin that BraTS gives its 240 x 240 x 155 grid."""
    depth, height, width = spacing_mm
    affine = np.diag([-width, -height, depth, 1.0])
    affine[1, 3] = (shape[1] - 1) * height
    return Geometry(affine, (shape[2], shape[1], shape[0]))
