"""Voxels that nobody labelled count in no loss: neither their prediction nor their number."""

from __future__ import annotations

import pytest
import torch

from anymri.losses.class_weighted import weighted_cross_entropy
from anymri.losses.review import review_dice_loss
from anymri.losses.segmentation import (
    binary_cross_entropy,
    cross_entropy,
    dice_nnunet,
    dice_plain,
    dice_regions,
    dice_squared,
    dice_squared_prediction,
)
from anymri.types import UNLABELLED, DataSpec, Head

SPEC = DataSpec(("t1",), {"lesion": 1, "cyst": 2}, {"lesion": ("lesion",)}, ignore=9)
HEAD = Head("softmax", ("background", "lesion", "cyst"))
LOSSES = {
    loss.__name__: loss
    for loss in (
        dice_plain,
        dice_regions,
        dice_squared,
        dice_squared_prediction,
        dice_nnunet,
        cross_entropy,
        binary_cross_entropy,
        weighted_cross_entropy,
        review_dice_loss,
    )
}


@pytest.mark.parametrize("name", LOSSES)
def test_an_ignored_voxel_is_as_one_that_is_not_there(name):
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 4, 5, 6), generator=generator)
    probability = torch.rand(2, 3, 4, 5, 6, generator=generator).softmax(dim=1)
    whole = LOSSES[name](probability, HEAD.target(label, SPEC))
    # Two planes more, unlabelled and predicted to be something else: nothing changes.
    label = torch.cat([label, torch.full((2, 4, 5, 2), 9)], dim=3)
    more = torch.rand(2, 3, 4, 5, 2, generator=generator).softmax(dim=1)
    probability = torch.cat([probability, more], dim=4).requires_grad_()
    loss = LOSSES[name](probability, HEAD.target(label, SPEC))
    loss.backward()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
    assert probability.grad is not None
    assert (probability.grad[..., 6:] == 0).all()
    assert (probability.grad[..., :6] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_without_a_label_map_is_as_one_that_is_not_there(name):
    """Neither a term of the sums nor a row of the means, in a specification with a value to ignore and without."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (3, 4, 5, 6), generator=generator)
    probability = torch.rand(3, 3, 4, 5, 6, generator=generator).softmax(dim=1)
    for spec in (SPEC, DataSpec(SPEC.modalities, SPEC.labels, SPEC.regions)):
        whole = LOSSES[name](probability[::2], HEAD.target(label[::2], spec))
        mixed = torch.stack([label[0], torch.full_like(label[1], UNLABELLED), label[2]])
        given = probability.clone().requires_grad_()
        loss = LOSSES[name](given, HEAD.target(mixed, spec))
        loss.backward()
        assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
        assert given.grad is not None
        assert (given.grad[1] == 0).all()
        assert all((given.grad[row] != 0).any() for row in (0, 2))
        given = probability.clone().requires_grad_()
        nothing = LOSSES[name](given, HEAD.target(torch.full_like(label, UNLABELLED), spec))
        nothing.backward()
        assert nothing.isfinite()
        assert given.grad is None or (given.grad == 0).all()


def test_without_a_value_to_ignore_targets_are_as_ever():
    label = torch.tensor([[[[0, 1, 2]]]])
    plain = DataSpec(SPEC.modalities, SPEC.labels, SPEC.regions)
    assert torch.equal(HEAD.target(label, plain), HEAD.target(label, SPEC))
    assert "ignore" not in plain.to_dict()
    assert DataSpec(**SPEC.to_dict()) == SPEC
    with pytest.raises(ValueError, match="background or a label"):
        DataSpec(("t1",), {"lesion": 1}, {}, ignore=1)
