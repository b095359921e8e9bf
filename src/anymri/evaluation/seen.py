"""Detect subjects seen in training, by image content, not id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anymri.data.cache import Cache
    from anymri.data.study import Study
    from anymri.protocol.facts import TrainingFacts

__all__ = ["add_training_images", "image_signatures", "seen_in_training", "training_images"]


def image_signatures(study: Study) -> list[str]:
    """Short hash of every sequence of a cached subject, from its raw-intensity statistics.

    Parameters
    ----------
    study : Study

    Returns
    -------
    list of str
        16 hexadecimal digits a present sequence. The statistics are those of the source image's own brain voxels,
        so the signature is the same in caches of any spacing, under any subject name, with any sequence deleted.
    """
    return [
        hashlib.sha256(np.ascontiguousarray(study.statistics[i], dtype="<f4").tobytes()).hexdigest()[:16]
        for i in np.flatnonzero(study.present)
    ]


def training_images(cache: Cache, subject_ids: Iterable[str]) -> list[str]:
    """Signatures of all training images, sorted: what a weights file stores as ``training_images``."""
    return sorted({name for subject_id in subject_ids for name in image_signatures(cache.entry(subject_id))})


def seen_in_training(study: Study, facts: TrainingFacts, same_data: bool = True) -> bool:
    """Whether a model was trained on an image of this subject.

    Parameters
    ----------
    study : Study
    facts : TrainingFacts
        What the weights file stores; its ``training_images`` count, else its ``training_subjects``.
    same_data : bool, default=True
        Whether subject ids mean the same persons to the weights and to the cache. Only used for weights that list
        ids but no images.

    Notes
    -----
    Weights that list images are judged by them alone: subject ids may be equal by chance (two phantoms) or differ for
    one study (two copies of a data set).
    """
    if facts.training_images is not None:
        return bool(set(image_signatures(study)) & set(facts.training_images))
    return same_data and study.subject_id in (facts.training_subjects or ())


def add_training_images(weights: Path | str, cache: Cache) -> list[str]:
    """Store the signatures of the training images in a weights file that only lists subject ids.

    Parameters
    ----------
    weights : path-like
        Replaced by a copy with ``training_images``; signatures that it holds already are kept.
    cache : Cache
        The data it was trained on.

    Returns
    -------
    list of str
        All signatures now stored.

    Raises
    ------
    UserError
        If the file is not a weights file or a training subject is not in the cache.
    """
    from anymri.methods import load
    from anymri.protocol.weights_file import read_header

    facts = read_header(weights).facts
    found = sorted({*(facts.training_images or ()), *training_images(cache, facts.training_subjects or ())})
    load(weights).save(weights, replace(facts, training_images=tuple(found)))
    return found
