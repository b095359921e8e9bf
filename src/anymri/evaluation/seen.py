"""Was a model trained on this very study? Decided by what the images hold, not by how they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anymri.data.cache import Cache, Entry

__all__ = ["image_signatures", "seen_in_training", "training_images"]


def image_signatures(entry: Entry) -> list[str]:
    """Short hash of every sequence of a cached subject, from its raw-intensity statistics.

    Parameters
    ----------
    entry : Entry

    Returns
    -------
    list of str
        16 hexadecimal digits a present sequence. The statistics are those of the source image's own brain voxels,
        so the signature is the same in caches of any spacing, under any subject name, with any sequence deleted.
    """
    return [
        hashlib.sha256(np.ascontiguousarray(entry.statistics[i], dtype="<f4").tobytes()).hexdigest()[:16]
        for i in np.flatnonzero(entry.present)
    ]


def training_images(cache: Cache, subject_ids: Iterable[str]) -> list[str]:
    """Signatures of all training images, sorted: what a weights file stores as ``training_images``."""
    return sorted({name for subject_id in subject_ids for name in image_signatures(cache.entry(subject_id))})


def seen_in_training(entry: Entry, extra: Mapping[str, Any]) -> bool:
    """Whether a model was trained on an image of this subject.

    Parameters
    ----------
    entry : Entry
    extra : dict
        What the weights file stores: ``training_images``, else ``training_subjects``.

    Notes
    -----
    Weights that list images are judged by them alone. For weights that only list subject ids an equal id counts as
    seen: a stamp too many is the smaller mistake.
    """
    if "training_images" in extra:
        return bool(set(image_signatures(entry)) & set(extra["training_images"]))
    return entry.subject_id in set(extra.get("training_subjects", ()))
