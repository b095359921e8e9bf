"""PIMMS: slots by hand, order that means nothing, and five unnamed sequences that are told apart."""

import math

import pytest
import torch
from conftest import build_preset, make_batch, run_turns
from torch.nn import functional as F

from anymri.methods import StepContext, create
from anymri.methods.pimms import PIMMS
from anymri.nn.fusion import masked_moments
from anymri.types import GLIOMA, DataSpec, Head

SIZE = (4, 16, 16)
SMALL = (2, 16, 16)
ALL = torch.ones(1, 4, dtype=torch.bool)
NARROW = {"classifier_widths": (8, 8), "classifier_blocks": 1, "width": 4, "front_width": 8}
FIVE = DataSpec(("t1", "t1c", "t2", "flair", "pd"), labels=GLIOMA.labels, regions=GLIOMA.regions)


def build(spec=GLIOMA, **config):
    return build_preset(PIMMS, "tiny", spec, **{**NARROW, **config}).eval()


@pytest.fixture
def network():
    return build()


def slots(network, images, scores, shown=None):
    shown = torch.ones(images.shape[:2], dtype=torch.bool) if shown is None else shown
    return network.slots(images, scores, shown, list(range(images.shape[1])))


def test_published_sizes_of_the_classifier():
    with torch.device("meta"):
        network = create("pimms")
    assert len(network.classifier.blocks) == 30
    assert [network.classifier.blocks[i].convs[2].weight.shape for i in (9, 19, 29)] == [
        (64, 16, 1, 1), (128, 32, 1, 1), (256, 64, 1, 1)
    ]  # fmt: skip
    assert [network.classifier.blocks[i].convs[1].stride for i in (0, 10, 20, 21)] == [(1, 1), (2, 2), (2, 2), (1, 1)]
    # HeMIS's back-end: 5 x 5, 1 to 48 and 48 to 48.
    assert sum(p.numel() for p in network.back_ends["t1"].parameters()) == 58_896
    assert network.front.weight.shape == (80, 96, 1, 1, 1)


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_which_channel_an_image_comes_in_means_nothing(attention):
    network = build(attention=attention)
    image = torch.randn(1, 4, *SIZE)
    order = [2, 0, 3, 1]
    with torch.inference_mode():
        before, after = network.predict(image, ALL), network.predict(image[:, order], ALL)
        # Two files, in any two channels.
        two = network.predict(image, GLIOMA.available(("t1", "t1c"))[None])
        moved = network.predict(image[:, [3, 2, 1, 0]], GLIOMA.available(("t2", "flair"))[None])
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.modality_logits, before.modality_logits[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved.logits, two.logits, atol=1e-5, rtol=1e-4)


def test_soft_slots_by_hand():
    network = build(posterior="slice")
    images, scores = torch.randn(1, 3, 1, 2, 4, 4), torch.randn(1, 3, 2, 4)
    found, filled = slots(network, images, scores, torch.tensor([[True, True, False]]))
    s = scores.softmax(dim=3)
    for m in range(4):
        for d in range(2):
            weighted = sum(s[0, j, d, m] * images[0, j, 0, d] for j in (0, 1))
            torch.testing.assert_close(found[0, m, 0, d], weighted / (s[0, 0, d, m] + s[0, 1, d, m]))
    assert filled.all()


@pytest.mark.parametrize("attention", ["soft", "hard"])
def test_with_certain_scores_a_slot_is_the_image_of_its_type(attention):
    network = build(attention=attention)
    images = torch.randn(1, 4, 1, *SIZE)
    types = torch.tensor([2, 0, 3, 1])
    scores = 100.0 * F.one_hot(types, 4).float()[None, :, None].expand(1, 4, SIZE[0], 4)
    found, filled = slots(network, images, scores)
    torch.testing.assert_close(found[:, types], images)
    assert filled.all()


def test_a_hard_slot_without_an_image_is_left_out_and_a_doubled_image_changes_nothing():
    network = build(attention="hard")
    images = torch.randn(1, 2, 1, *SIZE)
    images[:, 1] = images[:, 0]
    scores = F.one_hot(torch.tensor([2, 2]), 4).float()[None, :, None].expand(1, 2, SIZE[0], 4)
    both, filled = slots(network, images, scores)
    alone, _ = slots(network, images[:, :1], scores[:, :1])
    assert filled.tolist() == [[False, False, True, False]]
    torch.testing.assert_close(both[:, 2], images[:, 0])
    torch.testing.assert_close(both, alone)


def test_with_true_names_the_moments_are_those_of_hemis():
    network = build(attention="named")
    image, shown = torch.randn(1, 4, *SIZE), GLIOMA.available(("t1", "flair"))[None]
    with torch.inference_mode():
        maps = [back_end(image[:, i : i + 1]) for i, back_end in enumerate(network.back_ends.values())]
        moments = torch.cat(masked_moments([maps[0], maps[3]], torch.ones(1, 2, dtype=torch.bool)), dim=1)
        expected = network.last(F.relu(network.front(moments)))
        torch.testing.assert_close(network.predict(image, shown).logits, expected)


def test_empty_slices_neither_vote_nor_teach(network):
    images, scores = torch.randn(1, 2, 1, 3, 4, 4), torch.randn(1, 2, 3, 4)
    images[:, 0, :, 1] = 0
    mean = network._mean_scores(images, scores)[0, :, 0]
    torch.testing.assert_close(mean[0], (scores[0, 0, 0] + scores[0, 0, 2]) / 2)
    torch.testing.assert_close(mean[1], scores[0, 1].mean(dim=0))
    taught = network._type_loss(images, scores, torch.ones(1, 2, dtype=torch.bool), [0, 1])
    rows = torch.cat([scores[0, 0, [0, 2]], scores[0, 1]])
    torch.testing.assert_close(taught, F.cross_entropy(rows, torch.tensor([0, 0, 1, 1, 1])))


def test_the_terms_by_hand_and_the_weight_of_the_types():
    network = build(dice_weight=0.1, type_weight=10.0, type_decay=50.0)
    batch = make_batch(SIZE, ALL, ALL)
    logits = network.predict(batch.image, ALL).logits.detach()
    p, g = logits.softmax(1), Head("softmax", ("background", "ncr", "edema", "et")).target(batch.label)
    dice = (
        1 - sum((2 * (p * g)[0, c].sum() + 1e-5) / ((p * p)[0, c].sum() + g[0, c].sum() + 1e-5) for c in range(4)) / 4
    )
    for progress, weight in ((0.0, 10.0), (1 / 50, 10 / math.e), (1.0, 10 * math.exp(-50))):
        output = network.training_step(batch, StepContext(network.stages[0], progress=progress))
        assert output.logs["dice"].item() == pytest.approx(dice.item(), abs=1e-4)
        expected = 0.1 * output.logs["dice"] + weight * output.logs["type"]
        torch.testing.assert_close(output.loss.detach(), expected)


def test_names_teach_the_classifier_alone(network):
    """What the back-ends learn comes from the segmentation, which reads no name."""
    gradients = run_turns(build(dice_weight=0.0), make_batch(SIZE, ALL, ALL))["train.main"]["gradients"]
    assert gradients["classifier.last.weight"].abs().sum() > 0
    assert not any(key.startswith(("back_ends", "front", "last")) for key in gradients)


def five_sequences(generator):
    """A case of five sequences, and its label: lesions bright or dark, the rest smooth, rough or striped."""
    label = torch.zeros(1, *SMALL, dtype=torch.int64)
    y, x = torch.randint(3, 8, (2,), generator=generator).tolist()
    label[:, :, y : y + 5, x : x + 5] = 2
    rough = torch.randn(5, *SMALL, generator=generator)
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(*SMALL)
    background = torch.stack([0.2 * rough[0], 0.2 * rough[1], rough[2], 0.2 * rough[3] + stripes, rough[4] + stripes])
    contrast = torch.tensor([2.0, -2.0, 3.0, 3.0, -3.0])[:, None, None, None]
    return torch.where(label > 0, contrast, background)[None], label


def test_five_shuffled_unnamed_sequences_are_told_apart_and_segmented():
    """The claim, after a short training on named sequences."""
    network = build(FIVE).train()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    everything = torch.ones(1, 5, dtype=torch.bool)
    for _ in range(40):
        image, label = five_sequences(generator)
        batch = make_batch(SMALL, everything, everything, FIVE)._replace(image=image, label=label)
        optimizer.zero_grad()
        network.training_step(batch, StepContext(network.stages[0])).loss.backward()
        optimizer.step()
    network.eval()
    image, label = five_sequences(generator)
    order = [3, 1, 4, 0, 2]
    with torch.inference_mode():
        prediction = network.predict(image[:, order], everything)
    assert prediction.modality_logits[0].argmax(dim=1).tolist() == order
    found, truth = prediction.logits.argmax(1) == 2, label == 2
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
