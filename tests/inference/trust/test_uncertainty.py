"""Trust figures by hand-made probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anymri.inference.trust.uncertainty import entropy, sample_agreement, trust_summary
from anymri.types import Head

SOFTMAX = Head("softmax", ("background", "ncr", "edema", "et"))
SIGMOID = Head("sigmoid", ("wt",))


def voxels(*values):
    return torch.tensor(values).T[:, :, None, None]


def test_entropy_is_zero_when_sure_and_one_when_clueless():
    found = entropy(voxels([1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]), SOFTMAX).ravel()
    np.testing.assert_allclose(found, [0, 1, 0.5], atol=1e-6)
    np.testing.assert_allclose(entropy(voxels([0.5], [1.0], [0.0]), SIGMOID).ravel(), [1, 0, 0], atol=1e-6)


def test_summary_counts_uncertain_volume():
    summary = trust_summary(voxels([0.9], [0.6], [0.3], [0.1]), SIGMOID, voxel_ml=0.5)["whole_tumor"]
    assert summary["uncertain_ml"] == pytest.approx(1.0)
    assert summary["mean_probability"] == pytest.approx(0.75)
    assert set(summary) == {"uncertain_ml", "mean_probability"}, "no Dice is promised from uncalibrated probabilities"


def test_samples_agree_by_their_mean_pairwise_dice():
    one, other = voxels([0.9], [0.9], [0.1]), voxels([0.9], [0.1], [0.1])
    assert sample_agreement([one, one], SIGMOID)["whole_tumor"] == 1
    assert sample_agreement([one, other, one], SIGMOID)["whole_tumor"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert sample_agreement([voxels([0.1])] * 2, SIGMOID)["whole_tumor"] == 1
    with pytest.raises(ValueError, match="at least two"):
        sample_agreement([one], SIGMOID)
