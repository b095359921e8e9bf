"""The U-Net's own choices: sampler by config, modulation, deep supervision."""

import pytest
import torch
from conftest import make_batch, run_turns

from anymri.losses.segmentation import dice_regions, dice_regions_per_row
from anymri.methods import create
from anymri.types import UserError

SIZE = (16, 16, 16)
EVERYTHING = torch.ones(2, 4, dtype=torch.bool)


@pytest.mark.parametrize(("missing", "sampler"), [("zero_fill", "all"), ("modality_dropout", "uniform_subset")])
def test_the_way_of_missing_picks_the_sampler(missing, sampler):
    for preset in ("paper", "tiny"):
        with torch.device("meta"):
            network = create("unet", preset=preset, missing=missing)
        assert [stage.sampler for stage in network.stages] == [sampler]


def test_a_missing_modality_is_a_channel_of_zeros():
    network = create("unet", preset="tiny").eval()
    image, available = torch.randn(2, 4, *SIZE), torch.tensor([[True, False, True, True]] * 2)
    zeroed = image.clone()
    zeroed[:, 1] = 0
    with torch.inference_mode():
        assert torch.equal(network.predict(image, available).logits, network.predict(zeroed, EVERYTHING).logits)


def test_modulation_starts_as_the_plain_network_and_then_tells_subsets_apart():
    plain = create("unet", preset="tiny").eval()
    modulated = create("unet", preset="tiny", availability="modulation").eval()
    missing, unexpected = modulated.load_state_dict(plain.state_dict(), strict=False)
    assert missing
    assert all("modulation" in key for key in missing)
    assert not unexpected
    image, available = torch.zeros(2, 4, *SIZE), torch.tensor([[True] * 4, [True, False, False, False]])
    image[:, 0] = torch.randn(SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(modulated.predict(image, available), plain.predict(image, available))
        torch.nn.init.normal_(modulated.down[0].first.modulation.weight)
        full, single = modulated.predict(image, available).logits
        assert not torch.allclose(full, single, atol=1e-2)


def test_deep_supervision_trains_every_head_and_predicts_from_the_finest():
    network = create("unet", preset="tiny", deep_supervision=True, residual=True, blocks=3)
    assert len(network.heads) == 2
    gradients = run_turns(network, make_batch(SIZE, EVERYTHING, EVERYTHING))["train.main"]["gradients"]
    assert gradients.keys() == dict(network.named_parameters()).keys()
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())
    assert network.eval().predict(torch.randn(1, 4, *SIZE), EVERYTHING[:1]).logits.shape[2:] == SIZE


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_any_depth(depth):
    network = create("unet", width=4, depth=depth, availability="modulation")
    assert network.divisor == 2 ** (depth - 1)
    assert network.predict(torch.randn(1, 4, *SIZE), EVERYTHING[:1]).logits.isfinite().all()


def test_a_misspelt_setting_is_refused_with_a_hint():
    with pytest.raises(UserError, match="did you mean 'width'"):
        create("unet", widht=8)
    with pytest.raises(UserError, match=r"method\.config\.depth = 0"):
        create("unet", depth=0)


@pytest.mark.parametrize(
    ("targets", "kind", "channels"),
    [
        ("regions", "sigmoid", ("whole_tumor", "tumor_core", "enhancing_tumor")),
        ("labels", "softmax", ("background", "ncr", "edema", "et")),
    ],
)
def test_targets_choose_the_head_and_its_loss(targets, kind, channels):
    network = create("unet", preset="tiny", targets=targets)
    assert (network.head.kind, network.head.channels) == (kind, channels)
    batch = make_batch(SIZE, EVERYTHING, EVERYTHING)
    output = run_turns(network, batch)["train.main"]["output"]
    logits = network.predict(batch.image, EVERYTHING).logits.detach().double()
    probability, target = network.head.probability(logits), network.head.target(batch.label).double()
    if kind == "softmax":
        entropy = -(target * probability.log()).sum(1).mean()
        probability, target = probability[:, 1:], target[:, 1:]
    else:
        entropy = -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()
    overlap, total = (probability * target).sum((0, 2, 3, 4)), (probability + target).sum((0, 2, 3, 4))
    assert output.logs["dice"].item() == pytest.approx(1 - (2 * overlap / total).mean().item(), abs=1e-4)
    assert output.logs["cross_entropy"].item() == pytest.approx(entropy.item(), abs=1e-4)


@pytest.mark.parametrize(("dice", "loss"), [("batch", dice_regions), ("row", dice_regions_per_row)])
def test_dice_of_regions_is_over_the_batch_or_over_each_row(dice, loss):
    network = create("unet", preset="tiny", dice=dice)
    batch = make_batch(SIZE, EVERYTHING, EVERYTHING)
    batch.label[0] = 0  # sums over the batch hide a row without a lesion
    output = run_turns(network, batch)["train.main"]["output"]
    probability = network.predict(batch.image, EVERYTHING).logits.detach().sigmoid()
    expected = [each(probability, network.head.target(batch.label)).item() for each in (dice_regions_per_row, loss)]
    assert output.logs["dice"].item() == pytest.approx(expected[1], abs=1e-4)
    assert (abs(expected[0] - expected[1]) > 0.002) == (dice == "batch")
