"""Noise belongs to a place in the volume, whatever window asks for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anymri.protocol.noise import Noise


def at(*origin: int, seed: str = "a") -> Noise:
    return Noise([seed], torch.tensor([origin]))


def test_windows_agree_where_they_overlap():
    whole = Noise(["a"]).normal("x", 2, (12, 10, 8))
    part = at(3, 4, 2).normal("x", 2, (6, 5, 4))
    assert torch.equal(part, whole[:, :, 3:9, 4:9, 2:6])


def test_coarse_maps_of_windows_at_multiples_of_the_stride_agree():
    whole = Noise(["a"]).normal("x", 1, (6, 6, 6), stride=2)
    assert torch.equal(at(4, 2, 0).normal("x", 1, (3, 3, 3), stride=2), whole[:, :, 2:5, 1:4, :3])
    by_axis = at(4, 2, 0).normal("x", 1, (3, 3, 3), stride=(4, 2, 1))
    assert torch.equal(by_axis, at(1, 1, 0).normal("x", 1, (3, 3, 3)))


def test_padding_before_the_volume_has_noise_of_its_own():
    padded = at(-2, 0, 0).normal("x", 1, (4, 2, 2))
    assert torch.equal(padded[:, :, 2:], Noise(["a"]).normal("x", 1, (2, 2, 2)))
    assert not torch.equal(padded[:, :, :2], padded[:, :, 2:])


def test_seeds_names_and_channels_are_independent_standard_normals():
    noise = Noise(["a", "b"])
    values = torch.cat([noise.normal(name, 2, (24, 24, 24)).flatten(2) for name in ("x", "y")], 1).flatten(0, 1)
    assert values.shape == (8, 24**3)
    assert values.mean(1).abs().max() < 0.04
    assert (values.std(1) - 1).abs().max() < 0.02
    assert (torch.corrcoef(values) - torch.eye(8)).abs().max() < 0.04
    assert abs(float((values**4).mean()) - 3) < 0.1
    field = Noise(["a"]).normal("x", 1, (24, 24, 24))[0, 0]
    for axis in range(3):
        neighbours = torch.stack([field.roll(1, axis).flatten(), field.flatten()])
        assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.04


def test_a_vector_is_one_for_the_whole_volume():
    first, second = at(0, 0, 0).vector("style", 500), at(9, 9, 9).vector("style", 500)
    assert torch.equal(first, second)
    assert abs(float(first.std()) - 1) < 0.15
    assert not torch.equal(first, at(0, 0, 0, seed="b").vector("style", 500))


def test_rows_keep_their_seed_and_place():
    noise = Noise(["a", "b", "a"], torch.tensor([[0, 0, 0], [1, 1, 1], [2, 2, 2]]))
    assert torch.equal(noise.rows([2, 0]).normal("x", 1, (2, 2, 2)), noise.normal("x", 1, (2, 2, 2))[[2, 0]])


def test_one_origin_per_row_is_needed():
    with pytest.raises(ValueError, match=r"shape \(1, 3\) for 2 seeds"):
        Noise(["a", "b"], torch.zeros(1, 3))


def test_values_stay_what_they_are():
    """Samples of published results repeat: the numbers themselves are fixed."""
    values = at(5, 6, 7, seed="subject|t1|0").normal("level0", 1, (1, 1, 3)).flatten().numpy()
    np.testing.assert_allclose(values, [0.2569361627101898, 0.09766821563243866, 1.0648359060287476], rtol=1e-6)
