"""Adversarial losses against hand-computed values."""

import pytest
import torch

from anymri.losses.adversarial import least_squares


def test_least_squares_is_the_mean_squared_distance_from_the_label():
    score = torch.tensor([[0.5, 2.0], [1.0, -1.0]])
    assert least_squares(score, 1.0) == pytest.approx((0.25 + 1 + 0 + 4) / 4)
    assert least_squares(score, torch.tensor([[1.0], [0.0]])) == pytest.approx((0.25 + 1 + 1 + 1) / 4)
    assert least_squares(score.bfloat16(), 0.0).dtype == torch.float32
