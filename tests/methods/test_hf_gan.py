"""HF-GAN: the authors' numbers, how it fuses, and what its second pass may see."""

import pytest
import record_hf_gan as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.errors import UserError
from anymri.methods import StepContext, create
from anymri.methods.hf_gan import HFGAN, HFGANConfig
from anymri.types import GLIOMA

ORDER = [recording.ORDER.index(code) for code in GLIOMA.modalities]
SMALL = {"multipliers": (1, 2, 2), "size": (24, 24), "layers": 1}


@pytest.fixture(scope="module")
def golden():
    return Golden("hf_gan")


@pytest.fixture(scope="module")
def imported(golden):
    judge = recording.filled(golden.shapes["discriminator"], "discriminator")
    weights = recording.filled(golden.shapes["generator"], "generator")
    weights |= {f"discriminator.{key}": value for key, value in judge.items()}
    return HFGAN.import_state_dict(weights, f"official:{'+'.join(recording.ORDER)}")


@pytest.fixture
def network():
    return build_preset(HFGAN, "tiny", **SMALL).eval()


def one_hot(code, rows=1):
    return GLIOMA.available((code,)).expand(rows, -1)


# -------------------------------------------------------------------------------------------------- the authors' code


def test_both_networks_have_the_authors_size(golden):
    with torch.device("meta"):
        network = HFGAN(HFGANConfig())
    assert parameters(network.generator) == golden.parameters["generator"] == 80_042_241
    assert parameters(network.discriminator) == golden.parameters["discriminator"] == 4_485_952


@pytest.mark.parametrize(("subset", "target"), recording.TASKS)
def test_syntheses_are_the_authors(golden, imported, subset, target):
    image, shown = recording.slices()[:, ORDER].transpose(0, 1)[None], GLIOMA.available(subset.split("+"))[None]
    with torch.inference_mode():
        made = imported.predict(image, shown)
    assert torch.equal(made.synthesised, ~shown)
    place = GLIOMA.index(target)
    assert golden.difference(f"{subset}.{target}", made.image[0, place, :, None].contiguous()) <= 1e-4
    for other in set((~shown[0]).nonzero().flatten().tolist()) - {place}:
        assert golden.difference(f"{subset}.{target}", made.image[0, other, :, None].contiguous()) > 1e-2


def test_losses_are_the_authors(golden, imported):
    image = recording.slices()[:, ORDER, None]
    shown = torch.stack([GLIOMA.available(subset.split("+")) for subset, _, _ in recording.ROWS])
    batch = make_batch((1, 48, 48), torch.ones_like(shown), shown)._replace(image=image)
    first, second = (torch.tensor([GLIOMA.index(row[place]) for row in recording.ROWS]) for place in (1, 2))
    shared, logs = {"target": first, "second": second}, {}
    with torch.inference_mode():
        for turn in imported.turns(imported.stages[0]):
            logs |= imported.training_step(batch, StepContext(imported.stages[0], turn, shared=shared)).logs
    expected = golden.losses()
    assert logs.keys() == expected.keys()
    for name, value in logs.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name


def test_a_sequence_alone_is_the_same_with_the_slip_and_without_two_are_not(imported):
    mended = HFGAN(HFGANConfig(**{**vars(imported.config), "first_channel_attention": False})).eval()
    mended.load_state_dict(imported.state_dict())
    image = recording.slices()[:, ORDER].transpose(0, 1)[None]
    assert HFGANConfig().first_channel_attention is False
    for subset, same in (("t2", True), ("t1c+t2", False)):
        shown = GLIOMA.available(subset.split("+"))[None]
        with torch.inference_mode():
            one, other = (method.predict(image, shown).image for method in (imported, mended))
        assert torch.allclose(one, other, atol=1e-4, equal_nan=True) is same, subset


def test_sequences_of_foreign_weights_must_all_be_named(imported):
    with pytest.raises(UserError, match="name all of t1, t1c, t2, flair"):
        HFGAN.import_state_dict({}, "official:t1+t2")
    assert imported.config.multipliers == recording.MULTIPLIERS
    assert imported.config.size == (recording.SIZE, recording.SIZE)


# ------------------------------------------------------------------------------------------------------------ claims


def fused_by_hand(generator, image, shown):
    """Sum and mixture of the sequences by the equations, one row at a time, then the convolution that joins them."""
    rows = []
    for one, available in zip(image, shown, strict=True):
        codes = [code for code, there in zip(GLIOMA.modalities, available, strict=True) if there]
        features = {code: generator.encoders[code](one[None, [GLIOMA.index(code)]])[-1] for code in codes}
        weight = {code: generator.attention[code](features[code]) for code in codes}
        total = sum(value.exp() for value in weight.values())
        summed = sum(weight[code] * features[code] for code in codes)
        mixed = sum(weight[code].exp() / total * features[code] for code in codes)
        if len(codes) > 1:
            early = generator.early(torch.where(available[:, None, None], one, -1.0)[None])[-1]
            summed, mixed = summed + generator.attention["early"](early) * early, mixed + early
        rows.append(generator.join(torch.cat([summed, mixed], dim=1)))
    return torch.cat(rows)


def test_features_are_fused_by_the_equations_each_channel_by_its_own_attention(network):
    image = torch.randn(3, 4, 24, 24)
    shown = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1]]).bool()
    with torch.inference_mode():
        fused, _ = network.generator.fuse(image, shown, network.generator.encode(image, shown))
        torch.testing.assert_close(fused, fused_by_hand(network.generator, image, shown), atol=1e-5, rtol=1e-4)


def test_the_target_decides_what_is_made(network):
    image, shown = torch.randn(1, 4, 24, 24), GLIOMA.available(("t1",))[None]
    with torch.inference_mode():
        fused, maps = network.generator.fuse(image, shown, network.generator.encode(image, shown))
        made = [network.generator.make(fused, maps, one_hot(code)) for code in ("t2", "flair")]
    assert not torch.allclose(*made, atol=1e-3)


def test_the_second_pass_takes_the_synthesis_in_and_never_what_it_makes(network, monkeypatch):
    shown = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 0]]).bool()
    batch = make_batch((1, 24, 24), torch.ones_like(shown), shown)
    target, second = torch.tensor([1, 3]), torch.tensor([2, 1])
    seen, fuse = [], type(network.generator).fuse

    def watch(self, image, available, streams):
        seen.append((image, available))
        return fuse(self, image, available, streams)

    monkeypatch.setattr(type(network.generator), "fuse", watch)
    shared = {"target": target, "second": second}
    loss, logs = network.training_step(batch, StepContext(network.stages[0], "generator", shared=shared))
    (_, first), (image, later) = seen
    assert torch.equal(first, shown)
    assert later.tolist() == [[True, True, False, True], [False, False, False, True]]
    assert torch.equal(image[[0, 1], target, None].detach(), shared["made"])
    assert torch.equal(image[0, 3], batch.image[0, 3, 0])
    by_hand = 10 * logs["reconstruction"] + 0.25 * (logs["adversarial"] + logs["class"])
    torch.testing.assert_close(loss, by_hand + logs["feature"] + logs["cycle"])
    loss, logs = network.training_step(batch, StepContext(network.stages[0], "discriminator", shared=shared))
    torch.testing.assert_close(loss, 0.25 * sum(logs.values()))


def test_what_is_made_first_is_hidden_and_what_is_made_again_is_shown(network):
    shown = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 0]]).bool().repeat(50, 1)
    batch = make_batch((1, 24, 24), torch.ones_like(shown), shown)
    target, second = network._draw(batch, StepContext(network.stages[0]))
    rows = torch.arange(len(shown))
    assert not shown[rows, target].any()
    assert shown[rows, second].all()
    assert {tuple(pair) for pair in zip(target[::2].tolist(), second[::2].tolist(), strict=True)} == {
        (1, 0), (1, 2), (3, 0), (3, 2),
    }  # fmt: skip


def test_slices_of_another_size_are_refused_in_one_line(network):
    with pytest.raises(UserError, match="slices of 48x24 voxels, not 24x24"):
        network.predict(torch.zeros(1, 4, 2, 48, 24), GLIOMA.available(("t1",))[None])
    with pytest.raises(UserError, match="multiples of 16 from 24 on"):
        create("hf_gan", preset="tiny", size=(40, 32))


def test_the_discriminator_is_ten_times_slower_and_both_warm_up():
    method = create("hf_gan", preset="tiny")
    paper = HFGANConfig()
    assert paper.lr == pytest.approx(10 * paper.discriminator_lr)
    settings = method.optimizer_settings(HFGAN.presets["paper"].stages[0], "generator")
    assert settings.warmup * 100 * 8000 == pytest.approx(100)
    assert settings.schedule == "cosine"
