"""Medical Segmentation Decathlon, Task01_BrainTumour: one 4D file per subject, ``imagesTr/BRATS_001.nii.gz``.

Channels: 0 FLAIR, 1 T1w, 2 t1gd, 3 T2w. Labels in files: 1 edema, 2 non-enhancing tumour, 3 enhancing tumour.
Source: ``dataset.json`` of the task; Antonelli et al. 2022; Simpson et al., arXiv:1902.09063; paths in public code,
looked up on 2026-11-27.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo
from anymri.data.datasets.layout import check_root, check_subject_id, make_arrays, native_grid
from anymri.data.selectors import select
from anymri.files import make_folder, replace_file
from anymri.types import GLIOMA, Subject, UserError

__all__ = ["CHANNELS", "INFOS", "index_msd_brain", "write_msd_brain"]

#: Modality code to channel of the 4D files.
CHANNELS = {"flair": 0, "t1": 1, "t1c": 2, "t2": 3}
_TO_FILE = {1: 2, 2: 1, 3: 3}


def index_msd_brain(root: Path | str) -> list[Subject]:
    """Find the subjects of Task01; opens no image.

    Parameters
    ----------
    root : path-like
        ``Task01_BrainTumour`` or the folder above it.

    Returns
    -------
    list of Subject
        Sorted by id; those of ``imagesTs`` have no label map. Every sequence is a channel of the same file
        (``BRATS_001.nii.gz#2``).

    Raises
    ------
    UserError
        If there is no such subject, or a label map without an image.
    """
    root = check_root(root)
    root = root / "Task01_BrainTumour" if (root / "Task01_BrainTumour").is_dir() else root
    subjects = [_subject(path, root) for path in _files(root, "imagesTr") + _files(root, "imagesTs")]
    if not subjects:
        raise UserError(f"{root}: no subject found; expected folders imagesTr and labelsTr with BRATS_001.nii.gz")
    known = {subject.subject_id for subject in subjects}
    for path in _files(root, "labelsTr"):
        if _name(path) not in known:
            raise UserError(f"{path}: a label map without its image; restore imagesTr/{path.name}")
    return sorted(subjects, key=lambda subject: subject.subject_id)


def _files(root: Path, folder: str) -> list[Path]:
    # The archive was packed on a Mac: beside each file lies a hidden ._BRATS_001.nii.gz that is no image.
    paths = (root / folder).glob("*.nii*") if (root / folder).is_dir() else []
    return sorted(path for path in paths if not path.name.startswith("."))


def _name(path: Path) -> str:
    return path.name.partition(".nii")[0]


def _subject(path: Path, root: Path) -> Subject:
    label = root / "labelsTr" / path.name
    values = {theirs: ours for ours, theirs in _TO_FILE.items() if theirs != ours}
    return Subject(
        _name(path),
        {code: select(path, channel) for code, channel in CHANNELS.items()},
        select(label, values=values) if path.parent.name == "imagesTr" and label.is_file() else None,
        patient=_name(path),
    )


def write_msd_brain(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one subject: a 4D image and, if there is one, a label map.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"BRATS_001"``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        Ours: 1 ncr, 2 edema, 3 et; stored as 2, 1, 3.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The 4D file.

    Raises
    ------
    ValueError
        If a sequence is missing (a 4D file always has all four) or a value cannot be stored.
    """
    check_subject_id(subject_id)
    arrays = make_arrays(volumes, label, CHANNELS, _TO_FILE)
    missing = [code for code in CHANNELS if code not in arrays]
    if missing:
        raise ValueError(f"{missing[0]} is missing: a file of this layout holds all of {', '.join(CHANNELS)}")
    root = Path(root)
    stored = {"imagesTr": np.stack([arrays[code] for code in CHANNELS], axis=-1)}
    if label is not None:
        stored["labelsTr"] = arrays["label"]
    for folder, array in stored.items():
        make_folder(root / folder)
        with replace_file(root / folder / f"{subject_id}.nii.gz") as handle:
            handle.write(_nifti(array, spacing_mm))
    return root / "imagesTr" / f"{subject_id}.nii.gz"


def _nifti(array: np.ndarray, spacing_mm: tuple[float, float, float]) -> bytes:
    """A gzipped NIfTI file of an array (D, H, W) or (D, H, W, C)."""
    import nibabel as nib
    from isal import igzip

    from anymri.data.geometry import to_native

    grid = native_grid(array.shape[:3], spacing_mm)
    native = (
        np.moveaxis(to_native(np.moveaxis(array, -1, 0), grid), 0, -1) if array.ndim == 4 else to_native(array, grid)
    )
    return bytes(igzip.compress(nib.Nifti1Image(np.ascontiguousarray(native), grid.affine).to_bytes(), 1, mtime=0))


INFOS = (
    DatasetInfo(
        name="msd_brain",
        title="Medical Segmentation Decathlon Task01, glioma (4D files)",
        spec=GLIOMA,
        index=index_msd_brain,
        write=write_msd_brain,
        label_values=_TO_FILE,
        citation="Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022",
        licence="CC BY-SA 4.0",
        where="medicaldecathlon.com",
        traps=(
            "channel order is FLAIR, T1w, t1gd, T2w",
            "labels in files: 1 edema, 2 non-enhancing, 3 enhancing; read as ncr 1, edema 2, et 3",
            "the subjects are those of BraTS 2016 and 2017 under other names: do not test across these data sets",
            "the archive holds hidden ._* files that are no images",
        ),
    ),
)
