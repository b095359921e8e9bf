"""MICCAI WMH 2017: ``<site>/<number>/pre/T1.nii.gz``, ``pre/FLAIR.nii.gz`` and ``wmh.nii.gz``.

::

    training/Utrecht/0/pre/FLAIR.nii.gz
    training/Amsterdam/GE3T/100/wmh.nii.gz

Source: wmh.isi.uu.nl (data and manual reference standard), and paths in public code that reads the release, looked up
on 2026-11-27; one scanner of the test part is spelled ``Philips_VU .PETMR_01.``. ``orig/`` holds the scans before bias
correction and ``additional_annotations/`` those of other observers; neither is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo, lesion_spec
from anymri.data.datasets.layout import FolderLayout
from anymri.types import Subject

__all__ = ["INFOS", "LAYOUT", "index_wmh2017", "write_wmh2017"]

LAYOUT = FolderLayout(
    suffixes={"t1": "pre/T1", "flair": "pre/FLAIR"},
    label_suffix="wmh",
    label_values={},
    expected="folders <site>/<number>/ with files pre/T1.nii.gz, pre/FLAIR.nii.gz and wmh.nii.gz",
    depth=4,
    group_separator="-",
)


def index_wmh2017(root: Path | str) -> list[Subject]:
    """Find the subjects of the WMH challenge; opens no image.

    Parameters
    ----------
    root : path-like
        Folder of the sites, or one above it.

    Returns
    -------
    list of Subject
        Sorted by id, ``<site>-<number>``, e.g. ``Utrecht-0`` or ``GE3T-100``.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    return LAYOUT.index(root, lambda subject_id: (subject_id, subject_id.partition("-")[0]))


def write_wmh2017(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one subject in this layout; see `FolderLayout.write`.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"Utrecht-0"``; the text before the first ``-`` is the site's folder.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        1 lesion, 2 other pathology.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The subject's folder.
    """
    return LAYOUT.write(root, subject_id, volumes, label, spacing_mm)


INFOS = (
    DatasetInfo(
        name="wmh2017",
        title="MICCAI WMH 2017, white matter hyperintensities",
        spec=lesion_spec("t1", "flair", other_pathology=2),
        index=index_wmh2017,
        write=write_wmh2017,
        citation="Kuijf et al., Standardized Assessment of Automatic Segmentation of White Matter Hyperintensities, "
        "IEEE TMI 38(11), 2019",
        licence="CC BY-NC 4.0",
        where="doi:10.34894/AECRSD",
        traps=(
            "label 2 is other pathology, a rough mask that the challenge leaves out of scoring; it is no lesion",
            "T1 is registered to FLAIR, whose slices are 3 mm thick; heads are defaced, not skull-stripped",
            "the scanner decides most of the difference between sites: stratify or hold out by site",
        ),
    ),
)
