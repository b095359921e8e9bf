"""Small cached studies with a lesion to learn, made in memory: what tests of training and of benchmarks run on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from anymri.data.cache import Cache
from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.preprocess import preprocess_study
from anymri.types import GLIOMA

SHAPE = (20, 24, 28)
#: Brightness of brain, ncr, edema and et in each sequence.
CONTRAST = {"t1": (5, 3, 4, 5), "t1c": (5, 3, 4, 9), "t2": (4, 8, 7, 6), "flair": (4, 5, 9, 7)}
SIZES = {"u_hemis": {"widths": [2, 4]}, "u_hved": {"widths": [2, 4]}, "unet": {"width": 2, "depth": 2}}
SPLIT = {"train": ["p0", "p1", "p2"], "validation": ["p3"], "test": []}


def make_study(number: int, codes: tuple[str, ...], labelled: bool = True):
    """A ball of brain with three nested lesions in it, preprocessed."""
    random = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"))

    def ball(centre, radius):
        return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) < radius**2

    brain = ball((10, 12, 14), 9)
    centre = np.array((10, 12, 14)) + random.integers(-2, 3, 3)
    label = np.zeros(SHAPE, np.int16)
    for value, radius in ((2, 5.5), (3, 4), (1, 2.5)):
        label[ball(centre, radius) & brain] = value
    geometry = Geometry(np.eye(4), SHAPE[::-1])
    volumes = {}
    for code in codes:
        tissue = np.choose(label, [CONTRAST[code][0], *CONTRAST[code][1:]]).astype(np.float32)
        image = np.where(brain, 100 * (tissue + 0.3 * random.standard_normal(SHAPE)).clip(0.5), 0)
        volumes[code] = Volume(image.astype(np.float32), geometry, code)
    return preprocess_study(volumes, None, Volume(label, geometry, "label") if labelled else None, GLIOMA)


def write_cache(folder: Path) -> Path:
    """Four subjects: p1 lacks T2, p4 has no label."""
    cache = Cache.create(folder, GLIOMA, None)
    for number in range(5):
        codes = ("t1", "t1c", "flair") if number == 1 else GLIOMA.modalities
        cache.write_entry(f"p{number}", make_study(number, codes, labelled=number != 4))
    (folder.parent / "split.json").write_text(json.dumps({"folds": [SPLIT], "seed": 0}))
    return folder
