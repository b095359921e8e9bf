"""ResViT: the authors' numbers, the shared transformer, and which error the unified variant's terms measure."""

import pytest
import record_resvit as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.errors import UserError
from anymri.methods import StepContext, create
from anymri.methods.resvit import ResViT, ResViTConfig, UnifiedResViT
from anymri.types import GLIOMA

SMALL = {"size": (32, 32)}
SOURCE = GLIOMA.available(recording.SOURCES)[None]


@pytest.fixture(scope="module")
def golden():
    return Golden("resvit")


@pytest.fixture(scope="module")
def imported(golden):
    weights = recording.filled(golden.shapes["generator"], "generator")
    judge = recording.filled(golden.shapes["discriminator"], "discriminator")
    weights |= {f"discriminator.{key}": value for key, value in judge.items()}
    return ResViT.import_state_dict(weights, f"official:{'+'.join(recording.SOURCES)}->{recording.TARGET}")


def recorded_batch():
    image = torch.cat([recording.slices(code) for code in GLIOMA.modalities], dim=1).transpose(0, 1)[None]
    return make_batch((4, 16, 16), torch.ones(1, 4).bool(), SOURCE)._replace(image=image)


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_network_has_the_authors_size(golden):
    theirs = golden.parameters
    with torch.device("meta"):
        one, two = (ResViT(ResViTConfig(subset=subset, target="t2")) for subset in ("t1", "t1+flair"))
    assert parameters(one.generator) == theirs["generator"]
    assert parameters(two.generator) == theirs["generator_two_sources"] == 123_444_673
    assert sum(p.numel() for p in one.generator.convolutional()) == theirs["convolutional"]
    assert parameters(one.discriminator) == theirs["discriminator"]


def test_syntheses_and_losses_are_the_authors(golden, imported):
    batch = recorded_batch()
    with torch.inference_mode():
        made = imported.predict(batch.image, SOURCE).image[0, GLIOMA.index(recording.TARGET), :, None]
        plain = imported.generator(batch.image[0, :1].transpose(0, 1), transformers=False)
        other = imported.predict(batch.image.flip(1), SOURCE).image[0, GLIOMA.index(recording.TARGET), :, None]
        logs = {}
        for turn in ("discriminator", "generator"):
            logs |= imported.training_step(batch, StepContext(imported.stages[1], turn)).logs
    assert golden.difference("resvit", made.contiguous()) <= 1e-4
    assert golden.difference("convolutional", plain) <= 1e-4
    assert golden.difference("resvit", other.contiguous()) > 1e-2
    for name, value in golden.losses().items():
        assert float(logs[name]) == pytest.approx(value, rel=1e-4), name


def test_sources_of_foreign_weights_are_named_in_their_order(golden, imported):
    with pytest.raises(UserError, match="known: official:<sources>-><target>"):
        ResViT.import_state_dict({}, "official")
    weights = recording.filled(golden.shapes["generator"], "generator")
    first = weights["encoder_1.1.weight"]
    weights["encoder_1.1.weight"] = torch.cat([first, 2 * first], dim=1)
    two = ResViT.import_state_dict(weights, "official:flair+t1->t2")
    assert two.subset_modalities == ("t1", "flair")
    assert torch.equal(two.generator.encoder[1].weight, torch.cat([2 * first, first], dim=1))


# ------------------------------------------------------------------------------------------------------------ claims


def test_one_transformer_serves_two_blocks_and_has_one_place_in_the_optimiser():
    with torch.device("meta"):
        paper = ResViT(ResViTConfig())
    assert [number for number, block in enumerate(paper.generator.blocks, start=1) if block.context] == [1, 6]
    assert parameters(paper.generator.transformer) == 85_056_000
    groups = paper.turns(paper.stages[1])["generator"][0]["params"]
    assert len(groups) == len({id(parameter) for parameter in groups})
    assert {id(p) for p in paper.generator.transformer.parameters()} <= {id(p) for p in groups}
    first = {id(parameter) for parameter in paper.turns(paper.stages[0])["generator"][0]["params"]}
    assert not first & {id(p) for p in paper.generator.transformer.parameters()}


def test_without_transformers_nothing_of_them_counts():
    method = build_preset(ResViT, "tiny", subset="t1", target="t2", **SMALL).eval()
    image = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        before = method.generator(image, transformers=False), method.generator(image)
        for parameter in method.generator.transformer.parameters():
            parameter.add_(1.0)
        after = method.generator(image, transformers=False), method.generator(image)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_the_plain_network_is_all_there_in_the_one_with_transformers():
    first, second = (build_preset(ResViT, "tiny", subset="t1", target="t2", **SMALL).eval().generator for _ in range(2))
    image, chosen = torch.rand(2, 1, 32, 32), {id(parameter) for parameter in first.convolutional()}
    plain = {name: value for name, value in first.named_parameters() if id(value) in chosen}
    plain |= {name: value for name, value in first.named_buffers() if ".context." not in name}
    with torch.inference_mode():
        for value in (*second.parameters(), *second.buffers()):
            value.add_(1)
        missing, unexpected = second.load_state_dict(plain, strict=False)
        assert not unexpected
        assert all(name.startswith("transformer.") or ".context." in name for name in missing)
        assert torch.equal(second(image, transformers=False), first(image, transformers=False))
        assert not torch.allclose(second(image), first(image))


def test_the_discriminator_scores_patches():
    with torch.device("meta"):
        assert ResViT(ResViTConfig()).discriminator(torch.empty(1, 4, 256, 256)).shape == (1, 1, 30, 30)


def test_the_rate_is_held_for_half_a_stage():
    method = create("resvit", preset="tiny")
    first, second = (method.optimizer_settings(stage, "generator") for stage in method.stages)
    assert (first.hold, first.schedule, first.power) == (0.5, "poly", 1.0)
    paper = ResViTConfig()
    assert (paper.lr, paper.lr_transformers) == (2e-4, 1e-3)
    assert second.lr != first.lr


@pytest.mark.parametrize("subset", ["t1", "t1c+flair", "t1+t1c+t2"])
def test_each_term_of_the_unified_variant_measures_its_own_sequences(subset, monkeypatch):
    method = build_preset(UnifiedResViT, "tiny", **SMALL).eval()
    shown = GLIOMA.available(subset.split("+"))[None]
    batch = make_batch((2, 32, 32), torch.ones(1, 4).bool(), shown)
    seen = []
    forward = type(method.discriminator).forward

    def watch(self, x):
        seen.append(x)
        return forward(self, x)

    monkeypatch.setattr(type(method.discriminator), "forward", watch)
    with torch.inference_mode():
        made = method.predict(batch.image, shown).image
        logs = method.training_step(batch, StepContext(method.stages[1], "generator")).logs
    error = (made - batch.image).abs()
    assert float(logs["pixel"]) == pytest.approx(100 * float(error[~shown].mean()), rel=1e-4)
    assert float(logs["reconstruction"]) == pytest.approx(100 * float(error[shown].mean()), rel=1e-4)
    sources, targets = seen[0].transpose(0, 1)[None].chunk(2, dim=1)
    assert torch.equal(sources[shown], batch.image[shown])
    assert sources[~shown].abs().max() == targets[shown].abs().max() == 0
    torch.testing.assert_close(targets[~shown], made[~shown])


def test_where_nothing_is_missing_the_unified_variant_only_reconstructs():
    method = build_preset(UnifiedResViT, "tiny", **SMALL).eval()
    everything = torch.ones(1, 4).bool()
    batch = make_batch((2, 32, 32), everything, everything)
    output = method.training_step(batch, StepContext(method.stages[1], "generator"))
    assert output.logs["pixel"] == 0
    assert output.loss.isfinite()
    (gradient,) = torch.autograd.grad(output.loss, method.generator.decoder[7].weight)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_slices_of_another_size_are_refused_in_one_line():
    method = build_preset(ResViT, "tiny", subset="t1", target="t2", **SMALL).eval()
    with pytest.raises(UserError, match="slices of 48x32 voxels, not 32x32"):
        method.predict(torch.zeros(1, 4, 2, 48, 32), GLIOMA.available(("t1",))[None])
    with pytest.raises(UserError, match="multiples of 16"):
        create("resvit", preset="tiny", size=(40, 32))
    assert [stage.patch for stage in method.stages] == [(8, 32, 32)] * 2
