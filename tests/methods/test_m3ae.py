"""M3AE: the authors' numbers, the masking budget, and what fills a missing modality."""

from copy import deepcopy
from dataclasses import replace

import pytest
import record_m3ae as recording
import torch
from conftest import build_preset, make_batch
from named_numbers import state_dict
from parity import Golden, parameters
from recorder import images, label

from anymri.errors import UserError
from anymri.methods import StepContext, m3ae
from anymri.methods.m3ae import M3AE, M3AEConfig, visible_patches
from anymri.types import GLIOMA, Where

ALL = torch.ones(1, 4, dtype=torch.bool)
SIZE = (16, 16, 16)


@pytest.fixture(scope="module")
def golden():
    return Golden("m3ae")


@pytest.fixture(scope="module")
def imported(golden):
    theirs = golden.filled("network")
    theirs["limage"] = theirs["limage"] * 100.0
    return M3AE.import_state_dict({f"module.{key}": value for key, value in theirs.items()})


@pytest.fixture
def network():
    return build_preset(M3AE, "tiny").eval()


def at(origin, volume, flipped=(False, False, False)):
    return Where(*(torch.tensor([value]) for value in (origin, volume, flipped)))


# -------------------------------------------------------------------------------------------------- the authors' code


def test_the_network_has_the_authors_size(golden):
    with torch.device("meta"):
        network = M3AE(M3AEConfig())
    size = parameters(network) - parameters(network.learned_image) - parameters(network.reconstruction)
    assert size == golden.parameters["unet"] == 4_704_505
    assert parameters(network.learned_image) == 4 * 155 * 240 * 240


def test_logits_are_the_authors(golden, imported):
    image, where = images(recording.ORDER, recording.SIZE), at(recording.ORIGIN, recording.IMAGE_SHAPE)
    with torch.inference_mode():
        features = imported.encode(image, ALL, where)
        for subset in recording.SUBSETS:
            logits = imported.decode(features, GLIOMA.available(subset.split("+"))[None]).logits
            assert golden.difference(subset, logits) <= 1e-4, subset
        swapped = imported.predict(image[:, [1, 0, 2, 3]], ALL, where).logits
        assert golden.difference(recording.SUBSETS[-1], swapped) > 1e-2


@pytest.mark.parametrize("distil", ["bottleneck", "deep_output"])
def test_losses_are_the_authors(golden, imported, monkeypatch, distil):
    monkeypatch.setattr(imported, "config", replace(imported.config, distil=distil))
    first, second = (GLIOMA.available(view.split("+"))[None] for view in recording.VIEWS)
    batch = make_batch((recording.SIZE,) * 3, ALL, first)._replace(
        image=images(recording.ORDER, recording.SIZE),
        label=label(recording.SIZE),
        where=at(recording.ORIGIN, recording.IMAGE_SHAPE),
    )
    with torch.inference_mode():
        output = imported.training_step(batch, StepContext(imported.stages[1], draw_available=lambda present: second))
    expected = golden.losses()
    assert float(output.logs["self_distillation"]) == pytest.approx(expected[distil], rel=1e-4)
    assert float(output.logs["dice"]) == pytest.approx(expected["dice"], rel=1e-4)
    segmentation = 0.7 * output.logs["dice"] + 0.3 * output.logs["cross_entropy"]
    assert float(segmentation) == pytest.approx(expected["segmentation"], rel=1e-4)
    assert float(output.loss) == pytest.approx(expected["segmentation"] + 0.1 * expected[distil], rel=1e-4)


def test_losses_of_pretraining_are_the_authors(golden, imported, monkeypatch):
    method, last = deepcopy(imported), state_dict(recording.LAST)
    method.reconstruction.load_state_dict({name.removeprefix("up1conv."): value for name, value in last.items()})
    for code, offset in zip(GLIOMA.modalities, recording.OFFSETS, strict=True):
        method.learned_image[code].data += offset
    monkeypatch.setattr(m3ae, "visible_patches", lambda *arguments: recording.patches())
    batch = make_batch((recording.SIZE,) * 3, ALL, ALL)._replace(
        image=images(recording.ORDER, recording.SIZE), where=at(recording.ORIGIN, recording.IMAGE_SHAPE)
    )
    with torch.inference_mode():
        output = method.training_step(batch, StepContext(method.stages[0]))
    expected = golden.losses()
    assert set(output.logs) == {"reconstruction", "learned_image"}
    for name, value in output.logs.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name
    total = expected["reconstruction"] + 0.005 * expected["learned_image"]
    assert float(output.loss) == pytest.approx(total, rel=1e-4)


def test_foreign_sources_are_refused():
    with pytest.raises(UserError, match="unknown source 'paper' of m3ae weights"):
        M3AE.import_state_dict({}, "paper")


# ------------------------------------------------------------------------------------------------------- the claims


def test_one_eighth_of_all_patches_is_shown_however_many_modalities_are_dropped():
    generator = torch.Generator().manual_seed(0)
    available = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]).bool()
    shown = visible_patches(available, (8, 8, 8), 0.125, generator)
    assert shown.flatten(1).sum(1).tolist() == [256] * 4
    assert not (shown.flatten(2).any(2) & ~available).any()
    assert not torch.equal(shown, visible_patches(available, (8, 8, 8), 0.125, generator))


def test_complete_cases_go_in_unchanged_and_missing_channels_are_the_learned_image(network):
    image = torch.rand(1, 4, *SIZE)
    features = network.encode(image, ALL, at((4, 6, 8), (96, 112, 96)))
    assert torch.equal(network._filled(features, ALL), image)
    shown = torch.tensor([[True, False, True, True]])
    filled = network._filled(features, shown)
    assert torch.equal(filled[:, [0, 2, 3]], image[:, [0, 2, 3]])
    learned = network.learned_image["t1c"]
    fine = learned.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(filled[0, 1], fine[4:20, 6:22, 8:24])


def test_mirrored_windows_see_a_mirrored_learned_image_and_outside_is_its_border(network):
    image = torch.rand(1, 4, *SIZE)
    plain = network.encode(image, ALL, at((4, 6, 8), (96, 112, 96)))["fill"]
    mirrored = network.encode(image, ALL, at((4, 6, 8), (96, 112, 96), (True, False, False)))["fill"]
    assert torch.equal(mirrored.flip(2), plain)
    outside = network.encode(image, ALL, at((-30, 0, 0), (96, 112, 96)))["fill"]
    assert (outside == outside[:, :, :1]).all()


def test_pretraining_moves_the_learned_image_where_it_was_seen_and_finetuning_not_at_all(network):
    batch = make_batch(SIZE, ALL, torch.tensor([[True, False, False, False]]))
    pretrain, finetune = network.stages
    network.training_step(batch, StepContext(pretrain)).loss.backward()
    learned = network.learned_image["flair"]
    step = (
        learned.grad
        - 0.005
        * (learned - learned.mean())
        / torch.stack([((x - x.mean()) ** 2).sum() for x in network.learned_image.values()]).sum().sqrt()
    )
    seen = step.abs() > 1e-7
    assert seen[20:28, 24:32, 20:28].any()
    seen[20:28, 24:32, 20:28] = False
    assert not seen.any()
    network.zero_grad(set_to_none=True)
    network.training_step(batch, StepContext(finetune)).loss.backward()
    assert all(image.grad is None for image in network.learned_image.values())
    trained = {id(p) for group in network.turns(finetune)["main"] for p in group["params"]}
    assert not any(id(image) in trained for image in network.learned_image.values())


def test_equal_views_agree_and_cases_without_labels_train_by_agreement_alone(network):
    batch = make_batch(SIZE, ALL, ALL)
    stage = network.stages[1]
    assert network.training_step(batch, StepContext(stage)).logs["self_distillation"] == 0
    other = torch.tensor([[True, False, False, True]])
    output = network.training_step(batch._replace(label=None), StepContext(stage, draw_available=lambda present: other))
    assert set(output.logs) == {"self_distillation"}
    assert output.loss.item() == pytest.approx(0.1 * output.logs["self_distillation"].item())


def test_pretraining_sees_one_eighth_of_the_case_however_many_modalities_are_dropped(network, monkeypatch):
    seen = []
    forward = network.encoder.forward
    monkeypatch.setattr(network.encoder, "forward", lambda x: seen.append(x) or forward(x))
    available = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]).bool()
    batch = make_batch(SIZE, torch.ones_like(available), available)
    network.training_step(batch, StepContext(network.stages[0]))
    real = (seen[0] == batch.image).float()
    patches = torch.nn.functional.avg_pool3d(real, network.config.mask_patch)
    assert set(patches.unique().tolist()) == {0.0, 1.0}
    assert patches.flatten(1).sum(1).tolist() == [4 * 2**3 / 8] * 4
    assert patches[~available].sum() == 0
