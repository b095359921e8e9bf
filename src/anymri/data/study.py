"""Study: the arrays of one subject as methods see them, in memory or mapped from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.lattice import NATIVE, Lattice, brain_box, brain_middle, choose_anchor
from anymri.types import DataSpec

__all__ = ["Study", "brain_box", "label_dtype"]

#: Frames end on multiples of so many voxels from the anchor, so that small differences between the brains of the
#: sequences do not keep subsets from sharing windows.
FRAME_STEP = 8


class Study(NamedTuple):
    """Study of one subject: made by `preprocess_study`, or opened from the cache, where arrays stay on disk.

    Attributes
    ----------
    image : ndarray of float32, or memmap of float16, shape (M, D, H, W)
        z-scores, all of them values of float16; 0 in the background, NaN where a modality is absent.
    present : ndarray of bool, shape (M,)
    label : ndarray or memmap of int, shape (D, H, W), or None
        Label values of the specification, and its `ignore`; of the type `label_dtype`.
    statistics : ndarray of float32, shape (M, len(STATISTICS))
        Raw-intensity statistics of each modality's own brain; NaN where absent.
    boxes : ndarray of int64, shape (M, 2, 3)
        Brain box of each modality, ``[start, stop)`` along (D, H, W); all 0 where absent.
    middles : ndarray of float64, shape (M, 3)
        Middle of each modality's brain (`anymri.data.lattice.brain_middle`), in native voxels; 0 where absent.
    spacing_mm : tuple of float
        Spacing of `image` along (D, H, W).
    geometry : Geometry
        Native grid of the source files; opened from the cache without their header.
    lattice : Lattice, default=NATIVE
        Where the voxels of `image` lie on the native grid.
    subject_id : str, default=""
        Name in the cache; empty for a study that is in none.
    ignore : int or None, default=None
        Value in `label` of voxels that nobody labelled.
    site, class_label : str, default=""
        Hospital or scanner, and class of the study (a grade, a diagnosis), where known.
    """

    image: NDArray[np.float32] | NDArray[np.float16]
    present: NDArray[np.bool_]
    label: NDArray[np.integer] | None
    statistics: NDArray[np.float32]
    boxes: NDArray[np.int64]
    middles: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    geometry: Geometry
    lattice: Lattice = NATIVE
    subject_id: str = ""
    ignore: int | None = None
    site: str = ""
    class_label: str = ""

    @classmethod
    def from_arrays(cls, image: NDArray[np.float32], statistics: NDArray[np.float32]) -> Study:
        """Study of an image that is in z-scores already and lies on no particular grid.

        Parameters
        ----------
        image : ndarray of float32, shape (M, D, H, W)
            Background 0; an absent modality NaN in every voxel.
        statistics : ndarray of float32, shape (M, len(STATISTICS))
        """
        depth, height, width = image.shape[1:]
        inside = np.isfinite(image) & (image != 0)
        return cls(
            image=image,
            present=np.array([not np.isnan(channel).all() for channel in image]),
            label=None,
            statistics=statistics,
            boxes=np.stack([brain_box(brain) for brain in inside]),
            middles=np.stack([brain_middle(brain) for brain in inside]),
            spacing_mm=(1.0, 1.0, 1.0),
            geometry=Geometry(np.eye(4), (width, height, depth)),
        )

    @property
    def grid(self) -> Geometry:
        """Grid of `image`, in the orientation of `geometry`; `geometry` itself if not resampled."""
        return self.lattice.grid(self.geometry, self.image.shape[1:])

    @property
    def affine(self) -> NDArray[np.float64]:
        """Index (d, h, w) of `image` to world position in mm, shape (4, 4)."""
        return self.grid.affine_dhw

    def brain(self, channels: Sequence[int | np.integer] | NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Brain of the given channels: where at least one of them is finite and not 0.

        Parameters
        ----------
        channels : sequence of int, or ndarray of bool, shape (M,)
            Channels of `image`; an absent one adds nothing.

        Returns
        -------
        ndarray of bool, shape (D, H, W)
        """
        shown = np.asarray(self.image)[list(channels)]
        return (np.isfinite(shown) & (shown != 0)).any(axis=0)

    def anchor(self, channels: Sequence[int | np.integer] | NDArray[np.bool_]) -> tuple[float, float, float]:
        """Place in native voxels that lattice and frame of the given channels go by: theirs alone."""
        return choose_anchor(np.asarray(self.middles)[list(channels)])

    def lattice_of(self, channels: Sequence[int | np.integer] | NDArray[np.bool_]) -> Lattice:
        """Lattice of the same spacing that the given channels place."""
        if self.lattice == NATIVE:
            return NATIVE
        return Lattice.around(self.anchor(channels), self.lattice.step, self.geometry.shape_dhw)

    def box(self, channels: Sequence[int | np.integer] | NDArray[np.bool_]) -> NDArray[np.int64]:
        """Box of `image`, ``[start, stop)``, shape (2, 3), that holds the brains of the given channels."""
        boxes = np.asarray(self.boxes)[list(channels)]
        boxes = boxes[(boxes[:, 1] > boxes[:, 0]).all(axis=1)]
        if not len(boxes):
            return np.zeros((2, 3), np.int64)
        return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])

    def _repr_html_(self) -> str:
        from anymri.data.study_html import study_html

        return study_html(self)

    def frame(
        self, channels: Sequence[int | np.integer] | NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What stands for the whole volume where only some channels are given: all that windows need to know of it.

        Returns
        -------
        frame : ndarray of int64, shape (2, 3)
            `box` grown outwards to multiples of `FRAME_STEP` from the origin; may reach outside the array.
        origin : ndarray of int64, shape (3,)
            Voxel of `image` that places are counted from: the one that holds the anchor.
        """
        anchor = np.array(self.anchor(channels))
        origin = self.lattice.cover(np.stack([anchor, anchor]))[0]
        start, stop = self.box(channels) - origin
        grown = np.stack([start // FRAME_STEP, -(-stop // FRAME_STEP)]) * FRAME_STEP
        return grown + origin, origin


def label_dtype(spec: DataSpec) -> type[np.integer[Any]]:
    """Type of label maps of a specification: uint8, or int16 or int32 where a value needs it."""
    largest = max((0, spec.ignore or 0, *spec.labels.values()))
    return np.uint8 if largest <= 255 else np.int16 if largest <= np.iinfo(np.int16).max else np.int32
