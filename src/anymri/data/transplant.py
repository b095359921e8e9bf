"""Lesion transplantation: the lesion of one subject, with its images and its label map, put into another's brain.

References
----------
.. [1] X. Zhang et al., CarveMix: A simple data augmentation method for brain lesion segmentation, NeuroImage 271, 2023,
   DOI 10.1016/j.neuroimage.2023.120041: new subjects from carved lesions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.study import Study

__all__ = ["transplant"]

#: Width of the soft edge between lesion and host, standard deviation in mm.
_EDGE_MM = 2.0
#: What a brain voxel becomes whose mixed value is exactly 0.
_NEARLY_ZERO = 1e-4


def transplant(host: Study, donor: Study, mirrored: bool) -> Study:
    """Put the donor's lesion into the host at the same place, in all of the host's sequences, after [1]_.

    Parameters
    ----------
    host, donor : Study
        Of the cache, in one space (BraTS: SRI24). What the host has of lesions stays where the donor has none.
    mirrored : bool
        Whether the donor is mirrored left and right (the last axis) first.

    Returns
    -------
    Study
        The host's, with new `image` and `label`. The host itself where the two do not fit: without label maps, of files
        with other shapes or spacings, or where the donor lacks a sequence of the host.

    Notes
    -----
    Only voxels that are brain in both change, so that background stays 0. The edge is blended over some millimetres,
    the label map is not. The whole volume is mixed: at 3 mm some milliseconds, at 1 mm half a second.
    """
    fits = host.label is not None and donor.label is not None and _space(host) == _space(donor)
    if not fits or (host.present & ~donor.present).any():
        return host
    assert host.label is not None
    assert donor.label is not None
    given, label = (_as_in(host, donor, np.asarray(array), mirrored) for array in (donor.image, donor.label))
    lesion = (label != 0) & (label != (donor.ignore or 0)) & host.brain(host.present)
    weight = ndimage.gaussian_filter(lesion.astype(np.float32), _EDGE_MM / np.asarray(host.spacing_mm), truncate=3.0)
    image = host.image.copy()
    for channel in np.flatnonzero(host.present):
        own, other = image[channel], given[channel]
        place = (weight > 0) & (own != 0) & (other != 0)
        mixed = own[place] + weight[place] * (other[place].astype(np.float32) - own[place])
        own[place] = np.where(mixed == 0, _NEARLY_ZERO, mixed)
    return host._replace(image=image, label=np.where(lesion, label, host.label))


def _space(study: Study) -> tuple[Any, ...]:
    return len(study.image), study.geometry.shape_dhw, study.lattice.step


def _as_in(host: Study, donor: Study, array: NDArray[Any], mirrored: bool) -> NDArray[Any]:
    """Array (..., D, H, W) of the donor on the host's voxels, the nearest ones; 0 where it has none.

    Each study's voxels lie by its own brain (`anymri.data.lattice`), so the same place of the common space is up to one
    voxel further in the one array than in the other.
    """
    step, size = np.array(host.lattice.step), np.array(array.shape[-3:])
    first, begin = (np.array(one.lattice.anchor) - np.array(one.lattice.place) * step for one in (host, donor))
    if mirrored:
        array = array[..., ::-1]
        begin[2] = donor.geometry.shape_dhw[2] - begin[2] - size[2] * step[2]
    skipped = np.rint((first - begin) / step).astype(int)
    shape = np.array(host.image.shape[1:])
    placed = np.zeros((*array.shape[:-3], *shape), array.dtype)
    low, high = np.maximum(0, -skipped), np.minimum(shape, size - skipped)
    target: Any = (..., *(slice(a, b) for a, b in zip(low, high, strict=True)))
    source: Any = (..., *(slice(a, b) for a, b in zip(low + skipped, high + skipped, strict=True)))
    placed[target] = array[source]
    return placed
