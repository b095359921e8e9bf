"""Predictions of a model reach every protocol, and the page shows what each makes of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anymri.benchmark.protocol_effects import effects_page, predicted_cases, protocol_effects
from anymri.data.geometry import Geometry
from anymri.data.study import Study
from anymri.evaluation import metrics
from anymri.evaluation.protocols import PROTOCOLS
from anymri.methods import Method, MethodConfig, MethodInfo, Preset
from anymri.protocol.method import zero_absent
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, STATISTICS, Head, Prediction, Stage

SHAPE = (12, 14, 10)


class Bright(Method):
    """Tumour where the brightest available sequence is bright; the first network that came to mind."""

    name = "bright"
    info = MethodInfo(title="Bright", family="test", task="segmentation", year=2026, reference="tests")
    presets = {"tiny": Preset((Stage("none", epochs=1, batch_size=1, patch=None, sampler="all"),))}
    head = Head(kind="sigmoid", channels=("wt", "tc", "et"))
    outputs = ("logits",)

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available)}

    def decode(self, features, available, request=EVERYTHING):
        bright = zero_absent(features["image"], available).amax(1, keepdim=True)
        return Prediction(logits=torch.cat([bright - 1, bright - 2, bright - 3], dim=1) * 8)


def entry(name: str, missing: tuple[str, ...] = (), labelled: bool = True) -> Study:
    rng = np.random.default_rng(len(name))
    label = np.zeros(SHAPE, np.uint8)
    label[3:8, 4:9, 3:7] = 2
    label[4:6, 5:8, 4:6] = 3
    image = np.full((4, *SHAPE), 0.1, np.float16) + rng.normal(0, 0.05, (4, *SHAPE)).astype(np.float16)
    image += (label > 0).astype(np.float16) * 1.5 + (label == 3).astype(np.float16) * 2.5
    image[:, :1] = 0
    present = np.array([code not in missing for code in GLIOMA.modalities])
    image[~present] = np.nan
    boxes = np.tile(np.array([[1, 0, 0], SHAPE]), (4, 1, 1)).astype(np.int64)
    boxes[~present] = 0
    values = {
        "image": image, "label": label if labelled else None, "present": present,
        "statistics": np.ones((4, len(STATISTICS)), np.float32), "boxes": boxes,
        "middles": np.tile(np.array(SHAPE) / 2, (4, 1)), "spacing_mm": (1.0, 1.0, 1.0),
        "geometry": Geometry(np.eye(4), SHAPE[::-1]), "subject_id": name,
    }  # fmt: skip
    return Study(**values)


@pytest.fixture
def cache():
    entries = {"a": entry("a"), "bb": entry("bb", missing=("t1", "t2")), "ccc": entry("ccc", labelled=False)}
    shared = {"entries": lambda name, subsets: [(entries[name], subsets)], "subject_ids": tuple(entries)}
    return SimpleNamespace(spec=GLIOMA, entry=entries.__getitem__, **shared)


@pytest.fixture
def method():
    return Bright(MethodConfig(preset="tiny")).eval()


def test_a_case_for_every_subset_a_subject_has(cache, method):
    cases = list(predicted_cases(method, cache, cache.subject_ids, ["t1", "flair+t1c", "flair"]))
    assert [(c.subject, c.subset) for c in cases] == [
        ("a", "t1"), ("a", "t1c+flair"), ("a", "flair"), ("bb", "t1c+flair"), ("bb", "flair"),
    ]  # fmt: skip
    first = cases[0]
    assert metrics.dice(first.predicted["whole_tumor"], first.label > 0) == 1
    assert first.brain.shape == (4, *SHAPE)
    assert not first.brain[:, 0].any()
    assert cases[-1].brain.shape == (2, *SHAPE)
    assert len(list(predicted_cases(method, cache, ["a"]))) == 15


def test_the_page_has_a_row_a_protocol_and_the_differences(cache, method):
    table = protocol_effects(method, cache, cache.subject_ids, ["flair"])
    assert set(table["protocol"]) == set(PROTOCOLS)
    page = effects_page(table, {"Model": "bright", "Subjects": 2})
    assert "- Model: bright" in page
    for name, protocol in PROTOCOLS.items():
        assert page.count(f"| `{name}` |") == (2 if protocol.cleaning else 1)
    assert "| `anymri` | none | 100.00 (+0.00) | 100.00 (+0.00) | 100.00 (+0.00) |" in page
    # Twelve voxels of enhancing tumour are cleaned away.
    assert "| `rfnet` | drop_small_enhancing | 100.00 (+0.00) | 100.00 (+0.00) | 0.00 (-100.00) |" in page
