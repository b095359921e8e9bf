"""Cross-entropy with weights of the classes, against weights counted by hand."""

import math

import pytest
import torch

from anymri.losses.class_weighted import cross_entropy_and_dice, weighted_cross_entropy
from anymri.losses.segmentation import dice_plain


def one_hot(*counts):
    """One row in which class c has ``counts[c]`` voxels."""
    label = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.nn.functional.one_hot(label, len(counts)).T[None].float()


def test_a_class_weighs_one_less_its_share_and_all_weights_sum_to_the_classes_less_one():
    counts = (8, 4, 3, 1)
    target = one_hot(*counts)
    weights = []
    for chosen, count in enumerate(counts):
        # Only the voxels of the chosen class cost anything, and each of them 1 times its weight.
        probability = torch.where(target[:, [chosen]] == 1, math.exp(-1), 1.0) * target
        weights.append(16 / count * weighted_cross_entropy(probability, target).item())
    assert weights == pytest.approx([1 - count / 16 for count in counts])
    assert sum(weights) == pytest.approx(3)


def test_rows_have_weights_of_their_own():
    target = torch.cat([one_hot(6, 2), one_hot(1, 7)])
    probability = torch.rand(2, 2, 8).softmax(dim=1)
    alone = [weighted_cross_entropy(probability[row : row + 1], target[row : row + 1]).item() for row in range(2)]
    assert weighted_cross_entropy(probability, target).item() == pytest.approx(sum(alone) / 2)


def test_probabilities_below_the_floor_count_as_the_floor_and_teach_nothing():
    target = one_hot(1, 1)
    probability = torch.tensor([[[0.001, 0.6], [0.999, 0.4]]], requires_grad=True)
    loss = weighted_cross_entropy(probability, target)
    assert loss.item() == pytest.approx(-(math.log(0.005) + math.log(0.4)) / 4)
    loss.backward()
    assert probability.grad[0, 0, 0] == 0
    assert probability.grad[0, 1, 1] < 0


def test_the_terms_of_several_predictions_are_sums():
    target, probabilities = one_hot(3, 5), list(torch.rand(2, 1, 2, 8).softmax(dim=2))
    terms = cross_entropy_and_dice("part", probabilities, [target] * 2)
    expected = {
        "part_cross_entropy": sum(weighted_cross_entropy(p, target) for p in probabilities),
        "part_dice": sum(dice_plain(p, target) for p in probabilities),
    }
    torch.testing.assert_close(terms, expected)


def test_shapes_must_match():
    with pytest.raises(ValueError, match="does not match"):
        weighted_cross_entropy(one_hot(1, 2), one_hot(1, 1))
