"""Augmentation of training crops: background stays exactly 0, brain voxels never become 0, absent stays NaN.

Arithmetic is NumPy's, one thread: sums must not depend on the number of threads, or resuming would not be exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from anymri.data.study import Study

__all__ = ["AUGMENTATIONS", "Crop", "mirror", "left_right", "standard", "strong", "whole_brain"]

#: What a brain voxel becomes whose changed value is exactly 0.
_NEARLY_ZERO = 1e-4


class Crop:
    """A box cut out of a cached subject, padded with 0 where it reaches beyond the volume.

    Parameters
    ----------
    study : Study
        Of the cache.
    origin, size : ndarray of int, shape (3,)
        First voxel (may be negative) and shape of the box (D, H, W).

    Attributes
    ----------
    image : Tensor of float32, shape (M, D, H, W)
        z-scores; NaN where not present.
    label : Tensor of int, shape (D, H, W), or None
    present : Tensor of bool, shape (M,)
    statistics : Tensor of float32, shape (M, len(STATISTICS))
    place : ndarray of int, shape (3,)
        First voxel, counted from the beginning of the subject's frame (`Study.frame`).
    frame_shape : ndarray of int, shape (3,)
    flipped : list of bool
    """

    def __init__(self, study: Study, origin: NDArray[np.int64], size: NDArray[np.int64]) -> None:
        self.study = study
        self.subject_id = study.subject_id
        self.origin = origin
        start, stop = study.frame(study.present)[0]
        self.place, self.frame_shape = origin - start, stop - start
        self.present = torch.from_numpy(np.array(study.present, dtype=bool))
        self.statistics = torch.from_numpy(np.array(study.statistics, dtype=np.float32))
        self.flipped = [False, False, False]
        self.image, self.label = self.read(origin, size)

    def read(self, origin: NDArray[np.int64], size: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Image and label of a box of the subject, unchanged but for the padding."""
        shape = np.array(self.study.image.shape[1:])
        start, stop = origin.clip(0, shape), (origin + size).clip(0, shape)
        source = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        target = tuple(slice(a, b) for a, b in zip(start - origin, stop - origin, strict=True))
        inside = torch.from_numpy(np.array(self.study.image[:, *source]))
        image = torch.zeros((len(self.present), *size.tolist()))
        image[:, *target] = inside  # converts while copying
        image[~self.present] = torch.nan
        if self.study.label is None:
            return image, None
        stored = torch.from_numpy(np.array(self.study.label[source]))
        label = torch.zeros(tuple(size.tolist()), dtype=stored.dtype)
        label[target] = stored
        return image, label

    def channels(self) -> list[NDArray[np.float32]]:
        """Present channels as arrays (D, H, W) that share the memory of `image`."""
        return [self.image[channel].numpy() for channel in self.present.nonzero().ravel().tolist()]


def mirror(crop: Crop, random: np.random.Generator) -> None:
    """Mirror each axis with probability 1/2, intensities as they are.

    Parameters
    ----------
    crop : Crop
        Changed in place; mirrored axes are noted in `Crop.flipped`.
    random : numpy.random.Generator
    """
    _flip(crop, [bool(draw < 0.5) for draw in random.random(3)])


def left_right(crop: Crop, random: np.random.Generator) -> None:
    """Mirror left and right with probability 1/2, intensities as they are.

    Parameters
    ----------
    crop : Crop
        Changed in place; see `mirror`.
    random : numpy.random.Generator
    """
    _flip(crop, [False, False, bool(random.random() < 0.5)])


def standard(crop: Crop, random: np.random.Generator) -> None:
    """Mirror each axis with probability 1/2; scale each modality by U(0.9, 1.1) and shift it by U(-0.1, 0.1).

    Parameters
    ----------
    crop : Crop
        Changed in place; mirrored axes are noted in `Crop.flipped`.
    random : numpy.random.Generator
    """
    mirror(crop, random)
    _scale_and_shift(crop, random)


def _scale_and_shift(crop: Crop, random: np.random.Generator) -> None:
    for channel in crop.channels():
        scale, shift = random.uniform(0.9, 1.1), random.uniform(-0.1, 0.1)
        _write_brain(channel, channel * np.float32(scale) + np.float32(shift), channel != 0)


def strong(crop: Crop, random: np.random.Generator) -> None:
    """`standard` after random changes in the spirit of nnU-Net, for few and varied real subjects.

    Parameters
    ----------
    crop : Crop
        Changed in place.
    random : numpy.random.Generator

    Notes
    -----
    Probability 0.3: rotation up to 15 degrees about each axis and scaling by U(0.85, 1.15), of all modalities and the
    label together. Then for each modality on its own: noise 0.15, blur 0.15, lower resolution 0.2 (half of these along
    one axis, as thick slices have it), brightness 0.15, contrast 0.15, gamma 0.3.
    """
    _change_strongly(crop, random)
    standard(crop, random)


def whole_brain(crop: Crop, random: np.random.Generator) -> None:
    """`strong` for crops that hold the whole brain, mirrored left and right alone, after changes of lesion contrast.

    Parameters
    ----------
    crop : Crop
        Changed in place.
    random : numpy.random.Generator

    Notes
    -----
    A brain upside down is none: where the window shows all of it, anatomy can be learnt from brains that stand upright.
    Lesion contrast: in each modality with probability 0.5, each label's voxels are shifted by U(-0.5, 0.5), with a
    soft edge.
    """
    for channel in crop.channels():
        if crop.label is not None and random.random() < 0.5:
            _shift_lesion(channel, crop.label.numpy(), crop.study.ignore or 0, random)
    _change_strongly(crop, random)
    left_right(crop, random)
    _scale_and_shift(crop, random)


def _change_strongly(crop: Crop, random: np.random.Generator) -> None:
    """What `strong` does before `standard`."""
    if random.random() < 0.3:
        _turn_and_scale(crop, random)
    for channel in crop.channels():
        brain = channel != 0
        if not brain.any():
            continue
        for probability, change in _CHANGES:
            if random.random() < probability:
                _write_brain(channel, change(channel, brain, random), brain)


def _nothing(crop: Crop, random: np.random.Generator) -> None:
    """Leave the crop as it is."""


#: Augmentations by the name that `training.augment` and a method's stages use.
AUGMENTATIONS: dict[str, Callable[[Crop, np.random.Generator], None]] = {
    "none": _nothing,
    "mirror": mirror,
    "left_right": left_right,
    "standard": standard,
    "strong": strong,
    "whole_brain": whole_brain,
}


def _flip(crop: Crop, flipped: list[bool]) -> None:
    crop.flipped = flipped
    axes = [axis - 3 for axis in range(3) if flipped[axis]]
    crop.image = crop.image.flip(axes)
    if crop.label is not None:
        crop.label = crop.label.flip(axes)


def _write_brain(channel: NDArray[np.float32], value: NDArray[np.float32], brain: NDArray[np.bool_]) -> None:
    """Put changed brain voxels into the channel; none of them becomes 0, which would mean background."""
    value[value == 0] = _NEARLY_ZERO
    np.copyto(channel, value, where=brain)


# ------------------------------------------------------------------------------------- changes of one modality


def _shift_lesion(
    channel: NDArray[np.float32], label: NDArray[np.integer], ignore: int, random: np.random.Generator
) -> None:
    """Make each label's voxels brighter or darker."""
    for value in np.unique(label[(label != 0) & (label != ignore)]):
        weight = _smooth((label == value).astype(np.float32), np.array([0, 0.25, 0.5, 0.25, 0], np.float32))
        _write_brain(channel, channel + np.float32(random.uniform(-0.5, 0.5)) * weight, channel != 0)


def _add_noise(
    channel: NDArray[np.float32], brain: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    return channel + np.float32(random.uniform(0, 0.3)) * random.standard_normal(channel.shape, dtype=np.float32)


def _blur(channel: NDArray[np.float32], brain: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float32]:
    sigma = random.uniform(0.5, 1.0)
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2).astype(np.float32)
    # Dividing by the blurred mask keeps the edge of the brain from darkening.
    weight: NDArray[np.float32] = np.maximum(_smooth(brain.astype(np.float32), taps), np.float32(1e-6))
    return _smooth(channel, taps) / weight


def _smooth(volume: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis in range(3):
        total = taps[2] * volume
        for offset in (1, 2):
            later, earlier = [slice(None)] * 3, [slice(None)] * 3
            later[axis], earlier[axis] = slice(offset, None), slice(None, -offset)
            total[tuple(later)] += taps[2 + offset] * volume[tuple(earlier)]
            total[tuple(earlier)] += taps[2 - offset] * volume[tuple(later)]
        volume = total
    return volume


def _lower_resolution(
    channel: NDArray[np.float32], brain: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    factor = np.full(3, random.uniform(0.5, 1.0))
    if random.random() < 0.5:
        factor = np.ones(3)
        factor[random.integers(3)] = random.uniform(0.25, 0.7)
    shape = np.maximum(1, np.rint(np.array(channel.shape) * factor)).astype(int).tolist()
    both = torch.from_numpy(np.stack([channel, brain.astype(np.float32)]))[None]
    small = functional.interpolate(both, size=shape, mode="area")
    value, weight = functional.interpolate(small, size=channel.shape, mode="trilinear", align_corners=False)[0].numpy()
    return value / np.maximum(weight, 1e-6)


def _brighten(
    channel: NDArray[np.float32], brain: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    return channel * np.float32(random.uniform(0.75, 1.25))


def _change_contrast(
    channel: NDArray[np.float32], brain: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    inside = channel[brain]
    mean = inside.mean()
    return ((channel - mean) * np.float32(random.uniform(0.75, 1.25)) + mean).clip(inside.min(), inside.max())


def _change_gamma(
    channel: NDArray[np.float32], brain: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    """Raise the range scaled to [0, 1] to a power, then restore mean and standard deviation; sometimes inverted."""
    inside = channel[brain]
    sign = np.float32(-1 if random.random() < 0.25 else 1)
    low, high = (sign * inside).min(), (sign * inside).max()
    unit = ((sign * inside - low) / max(high - low, 1e-6)).clip(0, 1)
    curved = sign * unit ** np.float32(random.uniform(0.7, 1.5))
    changed = np.zeros_like(channel)
    changed[brain] = (curved - curved.mean()) / max(curved.std(), 1e-6) * inside.std() + inside.mean()
    return changed


_CHANGES = (
    (0.15, _add_noise),
    (0.15, _blur),
    (0.2, _lower_resolution),
    (0.15, _brighten),
    (0.15, _change_contrast),
    (0.3, _change_gamma),
)


# -------------------------------------------------------------------------------------------- rotation and scaling


def _turn_and_scale(crop: Crop, random: np.random.Generator) -> None:
    """Resample the crop from the volume itself, so that rotated corners hold what is there and not padding."""
    size = np.array(crop.image.shape[1:])
    spacing = np.asarray(crop.study.spacing_mm, dtype=np.float64)
    in_mm = _rotation(np.deg2rad(random.uniform(-15, 15, size=3))) / random.uniform(0.85, 1.15)
    matrix = in_mm * spacing[None, :] / spacing[:, None]  # in voxels: diag(1/spacing) R diag(spacing)
    reach = np.ceil(np.abs(matrix) @ ((size - 1) / 2) + 1)
    centre = crop.origin + (size - 1) / 2
    origin = np.floor(centre - reach).astype(np.int64)
    image, label = crop.read(origin, np.ceil(centre + reach).astype(np.int64) - origin + 1)
    grid = _sampling_grid(matrix, centre - origin, size, np.array(image.shape[1:]))
    present = crop.present
    brain = (image[present] != 0).float()
    shared = all(torch.equal(mask, brain[0]) for mask in brain[1:])
    brain = brain[:1] if shared else brain
    sampled = functional.grid_sample(torch.cat([image[present], brain])[None], grid, align_corners=True)[0]
    value, weight = sampled[: int(present.sum())], sampled[int(present.sum()) :]
    # Linear weights of background voxels are taken out again; a voxel is brain where they are the smaller half.
    value = torch.where(weight > 0.5, value / weight.clamp_min(1e-6), 0.0)
    value = torch.where((value == 0) & (weight > 0.5), _NEARLY_ZERO, value)
    crop.image = torch.full((len(present), *size.tolist()), torch.nan)
    crop.image[present] = value
    if label is not None:
        crop.label = functional.grid_sample(label[None, None].float(), grid, mode="nearest", align_corners=True)[
            0, 0
        ].to(label.dtype)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation by the three angles (radians) about the axes D, H and W, shape (3, 3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _sampling_grid(
    matrix: NDArray[np.float64], centre: NDArray[np.float64], size: NDArray[np.int64], shape: NDArray[np.int64]
) -> Tensor:
    """Where each voxel of a crop of `size` samples a box of `shape`, as `grid_sample` wants it: (1, D, H, W, 3)."""
    half = (size - 1) / 2
    # Position = centre + matrix @ (index - half), scaled to [-1, 1] and with the axes in the order W, H, D.
    scale = 2 / np.maximum(shape - 1, 1)
    linear = (matrix * scale[:, None])[::-1]
    offset = ((centre - matrix @ half) * scale - 1)[::-1]
    axes = [np.arange(count)[:, None] * linear[:, axis] for axis, count in enumerate(size)]
    grid = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :] + offset
    return torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32))[None]
