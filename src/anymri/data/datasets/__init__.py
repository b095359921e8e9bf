"""The data set layouts that can be read and written, one module each. One visible table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from anymri.data.datasets import brats2021, brats2023, folder
from anymri.types import Subject, UserError

__all__ = ["DATASETS", "DatasetInfo", "get_dataset"]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One layout on disk.

    Parameters
    ----------
    name : str
        Value of ``--dataset``.
    title : str
    index : callable
        Folder to list of `Subject`; opens no image.
    write : callable
        ``(root, subject_id, volumes, label, spacing_mm)`` to the subject's folder.
    label_values : dict of int to int
        Our label value to the value in files; empty = the same.
    citation, licence, where : str
        What to cite, the terms of use, and where to get the data.
    """

    name: str
    title: str
    index: Callable[..., list[Subject]]
    write: Callable[..., Path]
    label_values: Mapping[int, int]
    citation: str
    licence: str
    where: str


#: Every layout by its name; alphabetical.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="brats2021",
            title="BraTS 2018-2021, pre-operative glioma",
            index=brats2021.index_brats2021,
            write=brats2021.write_brats2021,
            label_values=brats2021.LAYOUT.label_values,
            citation="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314, 2021; "
            "Menze et al., IEEE TMI 34(10), 2015; Bakas et al., Scientific Data 4:170117, 2017",
            licence="2021 training part: CC BY 4.0; earlier years: terms of the challenge",
            where="The Cancer Imaging Archive, doi:10.7937/jc8x-9874; earlier years: registration at the challenge",
        ),
        DatasetInfo(
            name="brats2023",
            title="BraTS 2023 and later, glioma and its sister challenges",
            index=brats2023.index_brats2023,
            write=brats2023.write_brats2023,
            label_values=brats2023.LAYOUT.label_values,
            citation="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314, 2021; "
            "and the paper of the sub-challenge",
            licence="terms of the challenge",
            where="registration at synapse.org",
        ),
        DatasetInfo(
            name="folder",
            title="any folder: <subject>/<modality>.nii.gz, or file name patterns",
            index=folder.index_folder,
            write=folder.write_folder,
            label_values=folder.LAYOUT.label_values,
            citation="",
            licence="yours",
            where="your disk",
        ),
    )
}


#: Years whose layout is another year's.
_SAME_LAYOUT = {"brats2018": "brats2021", "brats2019": "brats2021", "brats2020": "brats2021"}


def get_dataset(name: str) -> DatasetInfo:
    """Look a layout up by its name; ``brats2018`` to ``brats2020`` are ``brats2021``.

    Raises
    ------
    UserError
        If there is no such layout.
    """
    name = _SAME_LAYOUT.get(name, name)
    if name not in DATASETS:
        close = get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DATASETS)}"
        raise UserError(f"unknown data set layout {name!r}; {hint}")
    return DATASETS[name]
