"""The Dice losses and the cross-entropy, against sums done by hand."""

import math

import pytest
import torch

from anymri.losses.segmentation import (
    cross_entropy,
    dice_nnunet,
    dice_nnunet_per_row,
    dice_plain,
    dice_regions,
    dice_regions_per_row,
    dice_squared,
    dice_squared_prediction,
    level_weights,
)

# One row, two channels, two voxels. Channel 0: S pg = 0.8, S p = 1.2, S p^2 = 0.8, S g = 1.
# Channel 1: S pg = 0.6, S p = 0.8, S p^2 = 0.4, S g = 1.
PROBABILITY = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]])
TARGET = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])

ALL = [
    dice_plain,
    dice_squared,
    dice_squared_prediction,
    dice_nnunet,
    dice_nnunet_per_row,
    dice_regions,
    dice_regions_per_row,
]


def test_plain_dice_by_hand():
    expected = 1 - (1.6 / 2.2 + 1.2 / 1.8) / 2
    assert dice_plain(PROBABILITY, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_squared_dice_by_hand():
    expected = (1 - 1.6 / 1.8) + (1 - 1.2 / 1.4)
    assert dice_squared(PROBABILITY, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_dice_with_squared_prediction_by_hand():
    expected = 1 - ((1.6 + 1e-5) / (1.8 + 1e-5) + (1.2 + 1e-5) / (1.4 + 1e-5)) / 2
    assert dice_squared_prediction(PROBABILITY, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_squared_prediction_differs_from_both_squared_where_the_target_is_soft():
    soft = TARGET * 0.5
    # S g = 0.5 but S g^2 = 0.25: the losses share all other sums.
    first = 1 - ((0.8 + 1e-5) / (0.8 + 0.5 + 1e-5) + (0.6 + 1e-5) / (0.4 + 0.5 + 1e-5)) / 2
    assert dice_squared_prediction(PROBABILITY, soft).item() == pytest.approx(first, abs=1e-6)
    second = (1 - 0.8 / (0.8 + 0.25)) + (1 - 0.6 / (0.4 + 0.25))
    assert dice_squared(PROBABILITY, soft).item() == pytest.approx(second, abs=1e-6)


def test_nnunet_dice_by_hand():
    expected = 1 - (1.2 + 1e-5) / (1.8 + 1e-5)  # channel 1 only
    assert dice_nnunet(PROBABILITY, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_nnunet_dice_per_row_is_the_mean_over_rows_of_the_other():
    expected = 1 - (1.2 + 1e-5) / (1.8 + 1e-5)  # channel 1 only
    assert dice_nnunet_per_row(PROBABILITY, TARGET).item() == pytest.approx(expected, abs=1e-6)
    probability, target = torch.cat([PROBABILITY, 0.5 * PROBABILITY]), torch.cat([TARGET, TARGET])
    halved = 1 - (0.6 + 1e-5) / (1.4 + 1e-5)
    assert dice_nnunet_per_row(probability, target).item() == pytest.approx((expected + halved) / 2, abs=1e-6)
    assert dice_nnunet(probability, target).item() == pytest.approx(1 - (1.8 + 1e-5) / (3.2 + 1e-5), abs=1e-6)


def test_weights_of_levels_halve_and_sum_to_one():
    assert level_weights(3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_regions_dice_counts_every_channel():
    expected = 1 - ((1.6 + 1e-5) / (2.2 + 1e-5) + (1.2 + 1e-5) / (1.8 + 1e-5)) / 2
    assert dice_regions(PROBABILITY, TARGET).item() == pytest.approx(expected, abs=1e-6)


def test_dice_per_row_by_hand_and_of_an_empty_region():
    expected = 1 - ((1.6 + 0.2) / (2.2 + 0.2) + (1.2 + 0.2) / (1.8 + 0.2)) / 2
    assert dice_regions_per_row(PROBABILITY, TARGET, smooth=0.1).item() == pytest.approx(expected, abs=1e-6)
    painted = torch.full((1, 1, 2), 0.5, requires_grad=True)
    loss = dice_regions_per_row(painted, torch.zeros(1, 1, 2), smooth=0.1)
    assert loss.item() == pytest.approx(1 - 0.2 / 1.2)
    loss.backward()
    assert painted.grad is not None
    assert (painted.grad > 0.1).all()


def test_a_small_region_painted_too_large_costs_more_per_row_than_beside_a_large_one():
    truth = torch.zeros(2, 1, 1000)
    truth[0, 0, :500], truth[1, 0, :5] = 1, 1
    small_as_half = truth.clone()
    small_as_half[1, 0, :100] = 1
    assert dice_regions_per_row(small_as_half, truth) > 0.4
    assert dice_regions(small_as_half, truth) < 0.1


def test_sums_over_the_batch_or_over_each_row():
    probability = torch.tensor([[[0.5], [0.5]], [[1.0], [0.0]]])
    target = torch.tensor([[[0.0], [1.0]], [[1.0], [0.0]]])
    # Over the batch: channel 0 has S pg = 1, S p = 1.5, S g = 1; channel 1 has 0.5, 0.5, 1.
    assert dice_plain(probability, target).item() == pytest.approx(1 - (2 / 2.5 + 1 / 1.5) / 2, abs=1e-6)
    assert dice_nnunet(probability, target).item() == pytest.approx(1 - 1 / 1.5, abs=1e-4)
    # Of each row: (0, 1 / 1.25) and (2 / 2, empty = 1).
    rows = [1e-5 / (0.25 + 1e-5), 1 / 1.25, 1.0, 1.0]
    assert dice_squared_prediction(probability, target).item() == pytest.approx(1 - sum(rows) / 4, abs=1e-4)


@pytest.mark.parametrize("loss", ALL)
def test_a_perfect_prediction_costs_nothing_and_shapes_must_match(loss):
    assert loss(TARGET, TARGET).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="does not match"):
        loss(PROBABILITY, TARGET[:, :, :1])


@pytest.mark.parametrize("loss", ALL)
def test_half_precision_is_summed_in_full(loss):
    probability = torch.full((1, 2, 40, 40, 40), 0.5, dtype=torch.bfloat16)
    target = torch.ones(1, 2, 40, 40, 40)
    assert loss(probability, target).dtype == torch.float32
    torch.testing.assert_close(loss(probability, target), loss(probability.float(), target))


def test_cross_entropy_by_hand():
    logits = torch.log(PROBABILITY)
    expected = -(math.log(0.8) + math.log(0.6)) / 2
    assert cross_entropy(logits, TARGET).item() == pytest.approx(expected, abs=1e-6)
