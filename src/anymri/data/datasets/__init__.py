"""Data set layouts that can be read and written, one module each, in one visible table."""

from __future__ import annotations

from difflib import get_close_matches

from anymri.data.datasets import (
    adni,
    bids,
    brats2015,
    brats2021,
    brats2023,
    chaos,
    duke_liver,
    folder,
    isles2015,
    ixi,
    msd_brain,
    msgc2008,
    msseg2016,
    nnunet,
    wmh2017,
)
from anymri.data.datasets.info import DatasetInfo
from anymri.types import UserError

__all__ = ["DATASETS", "DatasetInfo", "get_dataset"]

_MODULES = (
    adni,
    bids,
    brats2015,
    brats2021,
    brats2023,
    chaos,
    duke_liver,
    folder,
    isles2015,
    ixi,
    msd_brain,
    msgc2008,
    msseg2016,
    nnunet,
    wmh2017,
)

#: Every layout by its name; alphabetical.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info for info in sorted((info for module in _MODULES for info in module.INFOS), key=lambda i: i.name)
}


def get_dataset(name: str) -> DatasetInfo:
    """Look a layout up by its name.

    Raises
    ------
    UserError
        If there is no such layout.
    """
    if name not in DATASETS:
        close = get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DATASETS)}"
        raise UserError(f"unknown data set layout {name!r}; {hint}")
    return DATASETS[name]
