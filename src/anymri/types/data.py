"""Data types: specification, subject, batch, position of windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from anymri.modalities import MODALITIES
from anymri.records import RECORD

__all__ = ["GLIOMA", "STATISTICS", "UNLABELLED", "Batch", "DataSpec", "Graph", "SpecRecord", "Subject", "Where"]


#: Value in a label map.
LabelValue = Annotated[int, Field(ge=0, le=2**24 - 1)]


@dataclass(frozen=True)
class DataSpec:
    """Which modalities, labels and regions a data set or a model has, in their one order.

    Parameters
    ----------
    modalities : tuple of str
        Codes of `anymri.modalities.MODALITIES`; their order is the channel order everywhere.
    labels : dict of str to int
        Label name to value in the integer label map; 0 is background and not listed.
    regions : dict of str to tuple of str
        Region name to the labels whose union it is, from the largest region to the smallest.
    ignore : int or None, default=None
        Value in label maps of voxels that nobody labelled: they count neither in a loss nor in a score.

    Raises
    ------
    ValueError
        If a modality is unknown or named twice, a region uses an unknown label, or `ignore` is background or a label.
    """

    modalities: tuple[str, ...] = ("t1", "t1c", "t2", "flair")
    labels: dict[str, int] = field(default_factory=lambda: {"ncr": 1, "edema": 2, "et": 3})
    regions: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "whole_tumor": ("ncr", "edema", "et"),
            "tumor_core": ("ncr", "et"),
            "enhancing_tumor": ("et",),
        }
    )
    ignore: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(self.modalities))
        object.__setattr__(self, "regions", {name: tuple(labels) for name, labels in self.regions.items()})
        if not self.modalities:
            raise ValueError("a data specification needs at least one modality")
        unknown = [code for code in self.modalities if code not in MODALITIES]
        if unknown:
            raise ValueError(f"unknown modality {unknown[0]!r}; known: {', '.join(MODALITIES)}")
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"a modality is named twice in {self.modalities}")
        for region, labels in self.regions.items():
            missing = [label for label in labels if label not in self.labels]
            if missing:
                raise ValueError(f"region {region!r} uses the unknown label {missing[0]!r}")
        if self.ignore is not None and self.ignore in (0, *self.labels.values()):
            raise ValueError(f"the value to ignore, {self.ignore}, is background or a label")

    def __hash__(self) -> int:
        return hash((self.modalities, tuple(self.labels.items()), tuple(self.regions.items()), self.ignore))

    def index(self, modality: str) -> int:
        """Channel number of a modality.

        Raises
        ------
        ValueError
            If the specification does not have it.
        """
        return self.modalities.index(modality)

    def subsets(self) -> list[tuple[str, ...]]:
        """All non-empty subsets, from one modality to all, each in the order of `modalities`."""
        return [subset for size in range(1, len(self.modalities) + 1) for subset in combinations(self.modalities, size)]

    def parse_subset(self, text: str | Iterable[str]) -> tuple[str, ...]:
        """Read ``"flair+t1c"`` (any order) as a subset in the order of `modalities`.

        Raises
        ------
        ValueError
            If it is empty, names a modality the specification lacks, or names one twice.
        """
        codes = [code.strip() for code in text.split("+")] if isinstance(text, str) else list(text)
        codes = [code for code in codes if code]
        unknown = [code for code in codes if code not in self.modalities]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(self.modalities)}")
        if not codes or len(set(codes)) != len(codes):
            raise ValueError(f"{text!r} is not a set of modalities; write e.g. {'+'.join(self.modalities[:2])}")
        return tuple(code for code in self.modalities if code in codes)

    def subset_name(self, subset: Iterable[str] | Tensor) -> str:
        """Name a subset, given as codes or as a boolean row (M,), e.g. ``"t1c+flair"``."""
        if isinstance(subset, Tensor):
            return "+".join(code for code, shown in zip(self.modalities, subset.tolist(), strict=True) if shown)
        return "+".join(self.parse_subset(tuple(subset)))

    def available(self, subset: Iterable[str]) -> Tensor:
        """Boolean row (M,) of a subset."""
        codes = self.parse_subset(tuple(subset))
        return torch.tensor([code in codes for code in self.modalities])

    def region_values(self, region: str) -> tuple[int, ...]:
        """Label values whose union is the region."""
        return tuple(self.labels[label] for label in self.regions[region])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; `DataSpec(**spec.to_dict())` gives the same specification back."""
        return {
            "modalities": list(self.modalities),
            "labels": dict(self.labels),
            "regions": {name: list(labels) for name, labels in self.regions.items()},
            **({} if self.ignore is None else {"ignore": self.ignore}),
        }


#: Pre-operative glioma as in BraTS: the default specification.
GLIOMA = DataSpec()


@dataclass(frozen=True, kw_only=True)
class SpecRecord:
    """Plain values of a `DataSpec` in files, see `DataSpec.to_dict`.

    Parameters
    ----------
    modalities : tuple of str
    labels : dict of str to int
    regions : dict of str to tuple of str
    ignore : int or None, default=None

    Raises
    ------
    ValueError
        If they are no specification.
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    modalities: tuple[str, ...]
    labels: dict[str, LabelValue]
    regions: dict[str, tuple[str, ...]]
    ignore: LabelValue | None = None

    def __post_init__(self) -> None:
        self.spec()

    def spec(self) -> DataSpec:
        """The specification."""
        return DataSpec(self.modalities, self.labels, self.regions, self.ignore)


@dataclass(frozen=True)
class Subject:
    """One study on disk; a modality that was not acquired has no entry.

    Parameters
    ----------
    subject_id : str
        Unique in its data set.
    images : dict of str to Path
        Modality code to image file.
    label : Path or None, default=None
        Integer label map.
    patient : str, default=""
        Person; several subjects (time points) may share one. Empty means the subject id.
    site : str, default=""
        Hospital or scanner, where known.
    notes : tuple of (Path, str)
        Files that were found and are not used, or are doubtful, each with a plain sentence; not part of the table.
    class_label : str, default=""
        Class of the study, e.g. a grade or a diagnosis, where known.
    """

    subject_id: str
    images: dict[str, Path]
    label: Path | None = None
    patient: str = ""
    site: str = ""
    notes: tuple[tuple[Path, str], ...] = field(default=(), compare=False)
    class_label: str = ""


#: Order of the last axis of `Batch.statistics`: raw-intensity statistics over a modality's own brain voxels.
STATISTICS = ("mean", "std", "min", "max", "p0.1", "p1", "p99", "p99.9")


#: Value of `Batch.label` throughout a row without a label map. No label map holds it: `Head.target` is NaN there, which
#: the losses of `anymri.losses` leave out, and a loss that knows nothing of it fails instead of learning background.
UNLABELLED = -1


class Where(NamedTuple):
    """Position of windows in their volumes, in voxels, for methods that need absolute position.

    The volume is the frame of the sequences that are given (`anymri.data.study.Study.frame`): their brain and a little
    around it, whatever empty space the stored array has.

    Attributes
    ----------
    origin : Tensor of int64, shape (B, 3), or (B, M, 3) of unpaired batches
        First voxel of the window (D, H, W); negative outside.
    volume_shape : Tensor of int64, shape (B, 3), or (B, M, 3) of unpaired batches
        Shape of the frame.
    flipped : Tensor of bool, shape (B, 3), or (B, M, 3) of unpaired batches
        Axes that augmentation mirrored.

    Notes
    -----
    Where modalities of a row come from different subjects (`Stage.unpaired`), each has a place of its own in a volume
    of its own; 0 and False where not present.
    """

    origin: Tensor
    volume_shape: Tensor
    flipped: Tensor


class Graph(NamedTuple):
    """Graph of one subject, as arrays or tensors.

    Attributes
    ----------
    nodes : float32, shape (N, F)
        Features of the nodes.
    edges : int64, shape (2, E)
        From and to node of each edge, counted from 0; an undirected edge stands there twice.
    edge_features : float32, shape (E, K)
    """

    nodes: Any
    edges: Any
    edge_features: Any

    @classmethod
    def of(cls, arrays: Mapping[str, Any], name: str) -> Graph | None:
        """The graph of a name from a subject's arrays (``<name>.nodes`` and so on); None if it has none."""
        parts = [f"{name}.{part}" for part in cls._fields]
        return cls(*(arrays[part] for part in parts)) if parts[0] in arrays else None


class Batch(NamedTuple):
    """Batch of subjects for a training step or `Method.fit`.

    Attributes
    ----------
    image : Tensor of float32, shape (B, M, *S)
        z-scores (after the method's `Intensity`); NaN where a modality is not present.
    label : Tensor of int64, shape (B, *S), or None
        Integer label map; `UNLABELLED` throughout a row without one, None for a cohort without any.
    present : Tensor of bool, shape (B, M)
        Exists on disk, and is not hidden from this training (``data.hide``).
    available : Tensor of bool, shape (B, M)
        Shown to the method now; a subset of `present`.
    statistics : Tensor of float32, shape (B, M, len(STATISTICS))
        Raw-intensity statistics of each modality's own brain; NaN where not present.
    where : Where or None
    subject_ids : tuple of str
        Subject of each row: label, site and class are its. Of unpaired batches followed by the further subjects that
        channels come from.
    identity : Tensor of int64, shape (B, M), or None
        Place in `subject_ids` of the subject that each channel comes from, -1 where not present. A paired row has one
        number, its own (the row's). In an unpaired row no number comes twice, and the channel with the row's own is the
        one that the label map belongs to. None in batches made by hand.
    site, class_label : Tensor of int64, shape (B,), or None
        Place of each subject's site and class in the cohort's sorted lists of names (`anymri.data.cache.Cache.sites`
        and `class_labels`), -1 where unknown or where the method does not name it in `uses`. None in batches made by
        hand.
    arrays : tuple of dict of str to Tensor
        Vectors and graphs of each row's subject by name (`anymri.data.tables`); a name is not there where a subject
        lacks the array, and none is where the method does not name ``"tables"`` in `uses`; `Graph.of` joins the parts
        of a graph. Empty in batches made by hand.
    """

    image: Tensor
    label: Tensor | None
    present: Tensor
    available: Tensor
    statistics: Tensor
    where: Where | None = None
    subject_ids: tuple[str, ...] = ()
    identity: Tensor | None = None
    site: Tensor | None = None
    class_label: Tensor | None = None
    arrays: tuple[dict[str, Tensor], ...] = ()

    @property
    def labelled(self) -> Tensor:
        """Which rows have a label map, bool, shape (B,)."""
        if self.label is None:
            return torch.zeros(len(self.image), dtype=torch.bool, device=self.image.device)
        return self.label.flatten(1)[:, 0] != UNLABELLED
