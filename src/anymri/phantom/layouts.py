"""The layouts of real data sets that phantoms can be written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from anymri.errors import UserError
from anymri.phantom.pathology import PATHOLOGY_TABLE
from anymri.phantom.settings import MODALITIES, PhantomSettings
from anymri.phantom.subject import subject_id

__all__ = ["LAYOUTS", "Layout", "default_layout", "find_layout"]


@dataclass(frozen=True)
class Layout:
    """How a phantom is written in one layout of `anymri.data.datasets.DATASETS`.

    Parameters
    ----------
    dataset : str
        Name of the layout there.
    name : str
        Subject's id, with ``{index}``; empty = `anymri.phantom.subject.subject_id`.
    described : bool, default=False
        A ``dataset.yaml`` says what labels and sequences there are: every pathology, any sequences it has names for.
    complete : bool, default=False
        Cannot be written without one of its sequences.
    relabel : dict of str to dict of int to int
        Pathology to what becomes of its label values, where they are not the layout's own; 0 drops one.
    """

    dataset: str
    name: str = ""
    described: bool = False
    complete: bool = False
    relabel: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    def subject_name(self, index: int) -> str:
        """Id of the subject of an index."""
        return self.name.format(index=index, number=index + 1) if self.name else subject_id(index)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Sequences of its studies, unless others are asked for."""
        from anymri.data.datasets import get_dataset

        return MODALITIES if self.described else get_dataset(self.dataset).spec.modalities

    def fits(self, pathology: str) -> bool:
        """Whether its label values mean what those of a pathology do."""
        from anymri.data.datasets import get_dataset

        labels = PATHOLOGY_TABLE[pathology].labels
        known = get_dataset(self.dataset).spec.labels
        return self.described or pathology in self.relabel or labels.items() <= known.items()

    def label(self, label: np.ndarray, pathology: str) -> np.ndarray | None:
        """The label map as this layout has it; None where it has none."""
        from anymri.data.datasets import get_dataset

        if not self.described and not get_dataset(self.dataset).spec.labels:
            return None
        table = np.arange(256, dtype=np.uint8)
        for ours, theirs in self.relabel.get(pathology, {}).items():
            table[ours] = theirs
        return table[label]


#: Every layout by its name. Those of the abdomen are not among them.
LAYOUTS: dict[str, Layout] = {
    layout.dataset: layout
    for layout in (
        Layout("adni", "002_S_{index:05d}_2006-11-15"),
        Layout("bids", "sub-{index:05d}", described=True),
        Layout("brats2013", "HG_{index:05d}"),
        Layout("brats2015", "HGG_brats_2013_pat{index:05d}_1"),
        Layout("brats2017", "Brats17_TCIA_{index:05d}_1"),
        Layout("brats2018", "Brats18_TCIA01_{index:05d}_1"),
        Layout("brats2019", "BraTS19_TCIA01_{index:05d}_1"),
        Layout("brats2020", "BraTS20_Training_{index:05d}"),
        Layout("brats2021"),
        Layout("brats2023"),
        Layout("brats2024"),
        Layout("folder", "phantom-{index:05d}", described=True),
        Layout(
            "isles2015_siss", "{number}", relabel={"stroke": {1: 0, 2: 1}, "stroke_subacute": {2: 1}}
        ),
        Layout("isles2015_spes", "{number}"),
        Layout("ixi", "IXI{index:05d}-Guys-0000"),
        Layout("msd_brain", "BRATS_{index:05d}", complete=True),
        Layout("msgc2008", "CHB_train_Case{index:05d}"),
        Layout("nnunet", "PHANTOM_{index:05d}"),
        Layout("msseg2016", "Center_01-Patient_{index:05d}"),
        Layout("wmh2017", "Utrecht-{index}"),
    )
}  # fmt: skip
#: One name for the parts of a data set: pathology to layout.
_PARTS = {"isles2015": {"stroke": "isles2015_spes", "stroke_subacute": "isles2015_siss", "none": "isles2015_siss"}}


def find_layout(name: str, pathology: str) -> Layout:
    """Look a layout up for a pathology.

    Raises
    ------
    UserError
        If there is no such layout, or its label values mean something else than those of the pathology.
    """
    if name not in LAYOUTS and name not in _PARTS:
        raise UserError(f"phantom: unknown layout {name!r}; choose one of {', '.join([*LAYOUTS, *_PARTS])}")
    layout = LAYOUTS.get(_PARTS[name].get(pathology, "") if name in _PARTS else name)
    if layout is None or not layout.fits(pathology):
        fitting = [other for other, row in LAYOUTS.items() if row.fits(pathology)]
        raise UserError(f"phantom: the layout {name} has no labels for {pathology}; choose {' or '.join(fitting)}")
    return layout


def default_layout(settings: PhantomSettings) -> str:
    """Layout for who names none: ``brats2023`` where it has the labels and sequences, else ``folder``."""
    fits = LAYOUTS["brats2023"].fits(settings.pathology) and settings.pathology != "none" and not settings.unaligned
    return "brats2023" if fits and set(settings.sequences) <= set(MODALITIES) else "folder"
