"""mmFormer: the authors' numbers, what attends, and what the auxiliary decoder may move."""

import pytest
import record_mmformer as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters
from recorder import images, label

from anymri.data.samplers import make_sampler
from anymri.errors import UserError
from anymri.methods import StepContext
from anymri.methods.mmformer import MmFormer, MmFormerConfig
from anymri.nn.pre_norm import PreNormConv
from anymri.types import GLIOMA, DataSpec

ALL = torch.ones(1, 4, dtype=torch.bool)
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]


@pytest.fixture(scope="module")
def golden():
    return Golden("mmformer")


@pytest.fixture(scope="module")
def imported(golden):
    theirs = golden.filled("network")
    return MmFormer.import_state_dict({f"module.{key}": value for key, value in theirs.items()}, "retrained")


@pytest.fixture
def network():
    return build_preset(MmFormer, "tiny").eval()


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_module_has_the_authors_size(golden):
    theirs = golden.parameters
    with torch.device("meta"):
        network = MmFormer(MmFormerConfig(grid=2))
    names = ("flair", "t1ce", "t1", "t2")
    tables = 4 * 2**3 * 512
    assert parameters(network.encoders) - tables == sum(
        theirs[f"{name}_{part}"] for name in names for part in ("encoder", "encode_conv", "transformer")
    )
    assert parameters(network.transformer) == theirs["multimodal_transformer"]
    assert parameters(network.join) == theirs["multimodal_decode_conv"]
    assert parameters(network.fusion) == theirs["decoder_fuse"]
    assert parameters(network.auxiliary) == theirs["decoder_sep"]


def test_logits_are_the_authors(golden, imported):
    # Theirs holds arrays (x, y, z).
    image = images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4)
    with torch.inference_mode():
        features = imported.encode(image, ALL)
        for subset in recording.SUBSETS:
            logits = imported.decode(features, GLIOMA.available(subset.split("+"))[None]).logits.transpose(2, 4)
            assert golden.difference(subset, logits) <= 1e-4, subset
        swapped = imported.predict(image[:, [1, 0, 2, 3]], ALL).logits.transpose(2, 4)
        assert golden.difference(recording.SUBSETS[-1], swapped) > 1e-2


def test_losses_are_the_authors(golden, imported):
    shown = torch.stack([GLIOMA.available(subset.split("+")) for subset in recording.LOSS_SUBSETS])
    batch = make_batch((recording.SIZE,) * 3, torch.ones_like(shown), shown)._replace(
        image=images(recording.ORDER, recording.SIZE, rows=2)[:, TO_OURS].transpose(2, 4),
        label=label(recording.SIZE, rows=2).transpose(1, 3),
    )
    with torch.inference_mode():
        output = imported.training_step(batch, StepContext(imported.stages[0]))
    expected = golden.losses()
    assert set(output.logs) == set(expected)
    for name, value in output.logs.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-5), name
    assert float(output.loss) == pytest.approx(sum(expected.values()), rel=1e-5)


def test_foreign_sources_and_other_sequences_are_refused():
    with pytest.raises(UserError, match="unknown source 'paper' of mmformer weights; known: official, retrained"):
        MmFormer.import_state_dict({}, "paper")
    with pytest.raises(UserError, match="as_released': needs the sequences flair, t1c, t1, t2"):
        build_preset(MmFormer, "tiny", DataSpec(("t1", "pd")), join="as_released")


def test_released_weights_pad_with_zeros(golden):
    theirs = golden.filled("network")
    released = MmFormer.import_state_dict(theirs)
    convs = [part for part in released.modules() if isinstance(part, PreNormConv) and part.conv.kernel_size[0] == 3]
    assert {part.padding for part in convs} == {"zeros"}
    with torch.device("meta"):
        defaults = MmFormer(MmFormerConfig(grid=2))
    convs = [part for part in defaults.encoders.modules() if isinstance(part, PreNormConv)]
    assert {part.padding for part in convs} == {"reflect"}


# ------------------------------------------------------------------------------------------------------- the claims


def test_an_absent_modality_changes_its_own_segmentation_alone(network):
    image, other = torch.randn(2, 1, 4, 16, 16, 16)
    changed = image.clone()
    changed[:, 1] = other[:, 1]
    without = torch.tensor([[True, False, True, True]])
    with torch.inference_mode():
        first, second = (network.encode(x, ALL) for x in (image, changed))
        assert torch.equal(network.decode(first, without).logits, network.decode(second, without).logits)
        assert not torch.equal(network.auxiliary(first["t1c"][:-1]), network.auxiliary(second["t1c"][:-1]))


def test_the_single_segmentations_do_not_reach_the_transformers(network):
    features = network.encode(torch.randn(1, 4, 16, 16, 16), ALL)
    sum(network.auxiliary(levels[:-1]).sum() for levels in features.values()).backward()
    for encoder in network.encoders.values():
        assert all(parameter.grad is None for parameter in encoder.transformer.parameters())
        assert encoder.pyramid.stages[0].first.conv.weight.grad.abs().sum() > 0


def test_positions_of_absent_modalities_take_part_in_attention(network):
    image = torch.randn(1, 4, 16, 16, 16)
    shown = torch.tensor([[True, False, False, False]])
    with torch.inference_mode():
        before = network.predict(image, shown).logits
        network.encoders["flair"].position.add_(torch.randn_like(network.encoders["flair"].position))
        assert not torch.allclose(network.predict(image, shown).logits, before, atol=1e-4)


@pytest.mark.parametrize("join", ["by_voxel", "as_released"])
def test_the_join_reads_one_voxel_or_four_neighbours(network, join, monkeypatch):
    method = build_preset(MmFormer, "tiny", join=join).eval()
    monkeypatch.setattr(method.transformer, "forward", lambda tokens: tokens)
    tokens = {code: torch.zeros(1, 32, 2, 2, 2) for code in GLIOMA.modalities}
    tokens["flair"][..., 0, 0, 0] = 1.0
    with torch.inference_mode():
        before = method._attend({code: torch.zeros_like(token) for code, token in tokens.items()})
        touched = (method._attend(tokens) != before).any(dim=1)[0].nonzero().tolist()
    assert touched == [[0, 0, 0]]
    tokens["flair"] = torch.zeros(1, 32, 2, 2, 2)
    tokens["flair"][..., 1, 1, 1] = 1.0  # the last of eight: with four neighbours, the second group
    with torch.inference_mode():
        touched = (method._attend(tokens) != before).any(dim=1)[0].nonzero().tolist()
    assert touched == ([[1, 1, 1]] if join == "by_voxel" else [[1, 0, 0]])


@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_training_shows_every_subset_equally_often(preset):
    (stage,) = MmFormer.presets[preset].stages
    shown = make_sampler(stage.sampler)(ALL.expand(10_000, -1), 0.5, torch.Generator().manual_seed(0))
    counts = (shown * torch.tensor([8, 4, 2, 1])).sum(dim=1).bincount(minlength=16)
    deviation = (10_000 * 1 / 15 * 14 / 15) ** 0.5
    assert counts[0] == 0
    assert (counts[1:] - 10_000 / 15).abs().max() < 3 * deviation
