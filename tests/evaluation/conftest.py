"""Small made-up studies that go the whole way: files, index, preprocessing, cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from anymri.data.cache import Cache
from anymri.data.datasets.brats2023 import write_brats2023
from anymri.data.index import index_dataset, write_subjects
from anymri.data.preprocess import preprocess
from anymri.methods import Method, MethodConfig, MethodInfo, Preset
from anymri.protocol.method import zero_absent
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, Head, Prediction, Stage

SHAPE = (32, 44, 30)
#: Brightness of brain, necrosis, oedema and enhancing tumour in each sequence.
CONTRAST = {
    "t1": (400, 250, 330, 420),
    "t1c": (400, 260, 330, 900),
    "t2": (300, 700, 600, 450),
    "flair": (350, 500, 800, 600),
}


def make_study(seed: int, *, enhancing: bool = True) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One asymmetric study (D, H, W) at 1 mm; every sequence sees another part of the brain."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"))
    centre = np.array([16 + seed % 3, 18 + 2 * (seed % 4), 15])[:, None, None, None]
    distance = np.linalg.norm((grid - centre) / np.array([1, 1, 1.2])[:, None, None, None], axis=0)
    label = np.zeros(SHAPE, np.uint8)
    label[distance < 8] = 2
    label[distance < 5.5] = 3 if enhancing else 1
    label[distance < 3.5] = 1
    middle = (np.array(SHAPE) / 2)[:, None, None, None]
    head = np.linalg.norm((grid - middle) / np.array([14, 20, 13])[:, None, None, None], axis=0) < 1
    label[~head] = 0
    images = {}
    for place, code in enumerate(GLIOMA.modalities):
        # The field of view of each sequence ends elsewhere, as in thick-sliced or cut-off acquisitions.
        seen = head & (grid[1] >= 2 + 3 * place) & (grid[1] < 44 - 5 * ((place + seed) % 4))
        values = np.take(CONTRAST[code], label) + rng.normal(0, 40, SHAPE)
        images[code] = np.where(seen, np.clip(values, 1, None), 0).round()
    return images, label


def write_cache(
    root: Path, studies: dict[str, tuple[dict[str, np.ndarray], np.ndarray | None]], spacing: float | None
) -> Cache:
    """Write studies as a BraTS 2023 folder, index and preprocess them."""
    for subject, (images, label) in studies.items():
        write_brats2023(root / "files", subject, images, label)
    write_subjects(root / "subjects.csv", index_dataset(root / "files", "brats2023"))
    report = preprocess(root / "subjects.csv", root / "cache", spacing_mm=spacing, progress=False)
    assert not report.failed
    return Cache(root / "cache")


class Mean(Method):
    """A method without weights: tumour where the mean of the available is bright, and that mean for all the rest."""

    name = "mean"
    info = MethodInfo(title="Mean", family="test", task="segmentation and synthesis", year=2026, reference="tests")
    presets = {"tiny": Preset((Stage("none", epochs=1, batch_size=1, patch=None, sampler="all"),))}
    presets["paper"] = presets["tiny"]
    head = Head(kind="sigmoid", channels=("wt", "tc", "et"))
    outputs = ("logits", "image")

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available)}

    def decode(self, features, available, request=EVERYTHING):
        shown = zero_absent(features["image"], available)
        mean = shown.sum(1, keepdim=True) / available.sum(1)[:, None, None, None, None]
        logits = torch.cat([mean - 0.5, mean - 1.0, mean - 1.5], dim=1) * 4
        return Prediction(logits=logits, image=mean.expand(-1, 4, -1, -1, -1).clone(), synthesised=~available)


@dataclass
class Studies:
    """What the tests share; `studies` maps a subject to its images and label."""

    cache: Cache
    studies: dict

    @property
    def names(self) -> list[str]:
        return list(self.cache.subject_ids)


@pytest.fixture(scope="session")
def three(tmp_path_factory) -> Studies:
    """Three subjects: complete, complete without enhancing tumour, and one that lacks T1c and T2."""
    studies = {
        "BraTS-GLI-00001-000": make_study(1),
        "BraTS-GLI-00002-000": make_study(2, enhancing=False),
        "BraTS-GLI-00003-000": make_study(3),
    }
    for code in ("t1c", "t2"):
        del studies["BraTS-GLI-00003-000"][0][code]
    return Studies(write_cache(tmp_path_factory.mktemp("three"), studies, 2.0), studies)


@pytest.fixture(scope="session")
def mean_class() -> type[Method]:
    return Mean


@pytest.fixture
def mean_method() -> Method:
    torch.manual_seed(0)
    return Mean(MethodConfig(preset="tiny"), GLIOMA).eval()


@pytest.fixture(scope="session")
def study_maker():
    return make_study


@pytest.fixture(scope="session")
def cache_maker():
    return write_cache
