"""Resample results from the model's grid to the grid and orientation of the input.

Only voxels in the box of the brain that was given get a value; all around is background, whatever the array's extent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anymri.data.geometry import Geometry
from anymri.data.lattice import NATIVE, Lattice, brain_box
from anymri.data.nifti import Volume
from anymri.data.raw.study import RawStudy
from anymri.data.resample import transfer
from anymri.data.study import Study
from anymri.inference.labels import label_map
from anymri.inference.subject import SubjectPrediction, background
from anymri.inference.trust.uncertainty import entropy
from anymri.types import DataSpec, Head

__all__ = ["Restored", "Target", "restore_image", "restore_prediction", "restore_probability", "restore_raw"]

Array = np.ndarray[Any, Any]
#: Share of a native voxel's surroundings that must be brain for a synthesised value to be defined there.
MIN_SHARE = 1e-3


class Target(NamedTuple):
    """Grid to bring a prediction to.

    Attributes
    ----------
    lattice : Lattice
    shape : tuple of int
        (D, H, W).
    box : ndarray of int64, shape (2, 3)
        Where the brain is that was given, ``[start, stop)``.
    """

    lattice: Lattice
    shape: tuple[int, ...]
    box: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, study: Study, channels: Sequence[int] | Array) -> Target:
        """Grid of a study whose sequences `channels` were given."""
        return cls(study.lattice, study.image.shape[1:], study.box(channels))


class Restored(NamedTuple):
    """Study and its prediction on one grid, in (D, H, W) order.

    Attributes
    ----------
    images : dict of str to float32 array, shape (D, H, W)
        The sequences that were given, raw intensities.
    completed : dict of str to float32 array, shape (D, H, W)
        Synthesised sequences, z-scores.
    probability : float32 array, shape (C, D, H, W), or None
        Of the channels of the method's head.
    entropy : float32 array, shape (D, H, W), or None
    geometry : Geometry
        The grid.
    """

    images: dict[str, Array]
    completed: dict[str, Array]
    probability: Array | None
    entropy: Array | None
    geometry: Geometry


def restore_prediction(
    prediction: SubjectPrediction, study: Study, volumes: Mapping[str, Volume], spec: DataSpec
) -> Restored:
    """Bring a prediction to the grid of the images that the study was made of.

    Parameters
    ----------
    prediction : SubjectPrediction
    study : Study
        What was predicted.
    volumes : dict of str to Volume
        What the study was made of, all on one grid.
    spec : DataSpec
    """
    # One after the other, and the largest last: of a fine grid each of these arrays is hundreds of megabytes.
    native_brain = np.zeros(next(iter(volumes.values())).array.shape, bool)
    for volume in volumes.values():
        native_brain |= volume.array != 0
    target = Target(NATIVE, native_brain.shape, brain_box(native_brain))
    completed = {}
    image = prediction.image
    if image is not None:
        brain = torch.from_numpy(study.brain(study.present))
        for index in torch.nonzero(prediction.synthesised)[:, 0].tolist():
            made = restore_image(image[index], brain, study.lattice, native_brain, NATIVE)
            completed[spec.modalities[index]] = made
    restored: Array | None = None
    uncertain: Array | None = None
    probability, head = prediction.probability, prediction.head
    if probability is not None and head is not None:
        source = Target.of(study, study.present)
        doubt = torch.from_numpy(entropy(probability, head))
        uncertain = _restore(doubt[None], np.zeros(1, np.float32), source, target)[0]
        restored = restore_probability(probability, head, source, target)
    given = {code: volume.array for code, volume in volumes.items()}
    return Restored(given, completed, restored, uncertain, study.geometry)


def restore_raw(
    aligned: Restored, prepared: RawStudy, head: Head | None, spec: DataSpec
) -> tuple[Restored, dict[str, Array]]:
    """Bring a prediction from the aligned grid of a raw study to the grids that its sequences were measured on.

    Parameters
    ----------
    aligned : Restored
        On ``prepared.grid``.
    prepared : RawStudy
    head : Head or None
    spec : DataSpec

    Returns
    -------
    Restored
        On the grid of the reference sequence; images and completed sequences are 0 outside the brain.
    dict of str to int array, shape (D, H, W)
        Label map on the own grid of every other sequence.
    """
    reference = prepared.reference
    labels: dict[str, Array] = {}
    probability = None
    if aligned.probability is not None and head is not None:
        certain = background(head)  # what lies beyond the aligned grid
        for code in prepared.native:
            parts = zip(aligned.probability, certain, strict=True)
            moved = np.stack([prepared.to_native(part, code, outside=float(value)) for part, value in parts])
            if code == reference:
                probability = moved
            else:
                labels[code] = label_map(moved, head, spec)
    brain = prepared.to_native(prepared.brain_mask.astype(np.float32), reference) > 0.5
    images = {code: prepared.to_native(array, reference) for code, array in aligned.images.items()}
    completed = {
        code: np.where(brain, prepared.to_native(array, reference), 0).astype(np.float16).astype(np.float32)
        for code, array in aligned.completed.items()
    }
    restored = Restored(
        images={code: np.where(brain, array, np.float32(0)) for code, array in images.items()},
        completed=completed,
        probability=probability,
        entropy=None if aligned.entropy is None else prepared.to_native(aligned.entropy, reference),
        geometry=prepared.native[reference],
    )
    return restored, labels


def restore_probability(probability: Any, head: Head, source: Target, target: Target) -> Array:
    """Probability on another grid of the same study, still in (D, H, W) order.

    Parameters
    ----------
    probability : array or Tensor of float, shape (C, D, H, W)
        On the grid of `source`.
    head : Head
    source, target : Target

    Returns
    -------
    float32 array, shape (C, *target.shape)
        Certain background outside the box of `target`, and taken to be so outside the box of `source`.
    """
    return _restore(torch.as_tensor(probability), background(head), source, target)


def _restore(values: Tensor, around: Array, source: Target, target: Target) -> Array:
    """Values (C, D, H, W) on another grid; `around` (C,) is what they are outside the boxes."""
    inner, outer = (tuple(slice(int(a), int(b)) for a, b in grid.box.T) for grid in (source, target))
    same = source.lattice == target.lattice and np.array_equal(source.box, target.box)
    restored = np.empty((len(values), *target.shape), np.float32)
    for channel, level in enumerate(around):  # one at a time: a fine grid has hundreds of megabytes of each
        restored[channel] = level
        part = values[channel][inner].float()
        if not same:
            part = transfer(part - level, source.lattice, source.box[0], target.lattice, target.box)
            part += level
        restored[channel][outer] = part.numpy()
    return restored


def restore_image(image: Tensor, brain: Tensor, lattice: Lattice, target_brain: Array, target: Lattice) -> Array:
    """Synthesised image on another grid, 0 outside the brain there, not darkened at its edge.

    Parameters
    ----------
    image : Tensor of float32, shape (D, H, W)
        z-scores on the model's grid.
    brain : Tensor of bool, shape (D, H, W)
        Where `image` is defined.
    lattice : Lattice
        Of `image`.
    target_brain : bool array, shape (D, H, W)
        Voxels to fill.
    target : Lattice
        Of `target_brain`.

    Returns
    -------
    float32 array, shape of `target_brain`
        Rounded to float16's values, the precision of the cache.
    """
    restored = np.zeros(target_brain.shape, np.float32)
    box, target_box = brain_box(brain.numpy()), brain_box(target_brain)
    inner, outer = (tuple(slice(int(a), int(b)) for a, b in one.T) for one in (box, target_box))
    shown = brain[inner]
    values = torch.stack([shown.float(), image[inner].where(shown, image.new_zeros(()))])
    share, total = transfer(values, lattice, box[0], target, target_box).numpy()
    inside = target_brain[outer] & (share > MIN_SHARE)
    part = restored[outer]
    np.divide(total, share, out=part, where=inside)
    del share, total
    for plane in part:
        plane[:] = plane.astype(np.float16)
    return restored
