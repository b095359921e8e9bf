"""Data set facts: names, labels, terms of use, traps; and the specifications that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anymri.types import DataSpec, Subject

__all__ = ["BRATS_CITATION", "DatasetInfo", "lesion_spec", "unlabelled_spec"]

#: What every BraTS data set asks to be cited besides its own paper.
BRATS_CITATION = (
    "Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS), IEEE TMI 34(10), 2015; "
    "Bakas et al., Advancing The Cancer Genome Atlas glioma MRI collections, Scientific Data 4:170117, 2017"
)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One layout on disk.

    Parameters
    ----------
    name : str
        Value of ``--dataset``.
    title : str
    spec : DataSpec
        Modalities, labels and regions; the labels are those that the reader gives.
    index : callable
        Folder to list of `Subject`; opens no image.
    write : callable
        ``(root, subject_id, volumes, label, spacing_mm)`` to the subject's folder.
    citation, licence, where : str
        What to cite, the terms of use, and where to get the data.
    label_values : dict of int to int
        Our label value to the value that `write` stores; empty = the same.
    read_spec : callable or None, default=None
        Folder to its specification, for layouts whose folder can describe itself; None where it does not.
    traps : tuple of str
        What is easily got wrong with these data.
    """

    name: str
    title: str
    spec: DataSpec
    index: Callable[..., list[Subject]]
    write: Callable[..., Path]
    citation: str
    licence: str
    where: str
    label_values: Mapping[int, int] = field(default_factory=dict)
    read_spec: Callable[[Path], DataSpec | None] | None = None
    traps: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain JSON form, without the functions."""
        return {
            "name": self.name,
            "title": self.title,
            **self.spec.to_dict(),
            "licence": self.licence,
            "where": self.where,
            "citation": self.citation,
            "traps": list(self.traps),
        }


def lesion_spec(*modalities: str, **labels: int) -> DataSpec:
    """Specification with one region, ``lesion``, made of the label 1; `labels` are further ones outside of it."""
    return DataSpec(modalities, {"lesion": 1, **labels}, {"lesion": ("lesion",)})


def unlabelled_spec(*modalities: str) -> DataSpec:
    """Specification of a data set without label maps."""
    return DataSpec(modalities, {}, {})
