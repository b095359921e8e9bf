"""Resample results from the model's grid to the grid and orientation of the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.raw.study import RawStudy
from anymri.data.resample import resample_to
from anymri.data.study import Study
from anymri.inference.labels import label_map
from anymri.inference.subject import SubjectPrediction
from anymri.inference.trust.uncertainty import entropy
from anymri.types import DataSpec, Head

__all__ = ["Restored", "restore_image", "restore_prediction", "restore_probability", "restore_raw"]

Array = np.ndarray[Any, Any]
#: Share of a native voxel's surroundings that must be brain for a synthesised value to be defined there.
MIN_SHARE = 1e-3


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
    native = study.geometry
    restored: Array | None = None
    uncertain: Array | None = None
    probability = prediction.probability
    if probability is not None and prediction.head is not None:
        restored = restore_probability(probability, native)
        uncertain = restore_probability(torch.from_numpy(entropy(probability, prediction.head))[None], native)[0]
    completed = {}
    image = prediction.image
    if image is not None:
        brain = torch.from_numpy(study.brain(study.present))
        native_brain = np.logical_or.reduce([volume.array != 0 for volume in volumes.values()])
        for index in torch.nonzero(prediction.synthesised)[:, 0].tolist():
            completed[spec.modalities[index]] = restore_image(image[index], brain, native_brain)
    given = {code: volume.array for code, volume in volumes.items()}
    return Restored(given, completed, restored, uncertain, native)


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
        certain = np.zeros(len(aligned.probability), np.float32)  # what lies beyond the aligned grid is background
        if "background" in head.channels:
            certain[head.channels.index("background")] = 1
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


def restore_probability(probability: Tensor, native: Geometry) -> Array:
    """Probability on the native grid, still in (D, H, W) order.

    Parameters
    ----------
    probability : Tensor of float32, shape (C, D, H, W)
        On the model's grid, which covers the same box.
    native : Geometry
        Grid of the input.

    Returns
    -------
    float32 array, shape (C, *native.shape_dhw)
    """
    return np.asarray(resample_to(probability, native.shape_dhw))


def restore_image(image: Tensor, brain: Tensor, native_brain: Array) -> Array:
    """Synthesised image on the native grid, 0 outside the native brain, not darkened at its edge.

    Parameters
    ----------
    image : Tensor of float32, shape (D, H, W)
        z-scores on the model's grid.
    brain : Tensor of bool, shape (D, H, W)
        Where `image` is defined.
    native_brain : bool array, shape (*native)
        Voxels to fill, in (D, H, W) order.

    Returns
    -------
    float32 array, shape of `native_brain`
        Rounded to float16's values, the precision of the cache.
    """
    share = np.asarray(resample_to(brain.float(), native_brain.shape))
    total = np.asarray(resample_to(image.where(brain, image.new_zeros(())), native_brain.shape))
    inside = native_brain & (share > MIN_SHARE)
    restored = np.divide(total, share, out=np.zeros_like(total), where=inside)
    return restored.astype(np.float16).astype(np.float32)
