"""URN: the unified representation by hand, and what each term and each stage teaches."""

import pytest
import torch
from conftest import build_preset, make_batch, run_turns

from anymri.methods.urn import URN
from anymri.nn.fusion import masked_mean
from anymri.types import GLIOMA, Head

SIZE = (8, 8, 8)
ALL = torch.ones(1, 4, dtype=torch.bool)
NARROW = {"channels": 4, "representation_widths": (4, 8), "widths": (4, 8)}


def build(**config):
    return build_preset(URN, "tiny", **{**NARROW, **config}).eval()


@pytest.fixture
def network():
    return build()


@pytest.fixture
def unified(network, monkeypatch):
    """What the segmentation is given, call by call."""
    seen = []
    forward = network.segmentation.forward
    monkeypatch.setattr(network.segmentation, "forward", lambda x: seen.append(x) or forward(x))
    return seen


def test_one_modality_is_represented_by_its_own_map_and_several_by_their_mean(network, unified):
    image = torch.randn(1, 4, *SIZE)
    maps = {code: net(image[:, [i]]) for i, (code, net) in enumerate(network.representations.items())}
    for subset in (("t2",), ("t1", "flair"), ("t1", "t1c", "t2", "flair")):
        network.predict(image, GLIOMA.available(subset)[None])
        torch.testing.assert_close(unified[-1], sum(maps[code] for code in subset) / len(subset))


def test_maps_have_one_shape_at_full_size(network):
    features = network.encode(torch.randn(1, 4, *SIZE), ALL)
    assert {tuple(x.shape) for x in features.values()} == {(1, 4, *SIZE)}


def test_the_same_map_twice_changes_nothing(network, unified):
    network.representations["t1c"] = network.representations["t1"]
    image = torch.randn(1, 4, *SIZE)
    image[:, 1] = image[:, 0]
    alone = network.predict(image, GLIOMA.available(("t1",))[None]).logits
    both = network.predict(image, GLIOMA.available(("t1", "t1c"))[None]).logits
    torch.testing.assert_close(both, alone)
    # A further map that is the mean already leaves the mean.
    first, second = torch.randn(2, 1, 4, *SIZE)
    mean = masked_mean([first, second], ALL[:, :2])
    torch.testing.assert_close(masked_mean([first, second, mean], ALL[:, :3]), mean)


def test_the_terms_by_hand(network):
    available = GLIOMA.available(("t1", "t2"))[None]
    batch = make_batch(SIZE, ALL, available)
    output = run_turns(network, batch)["train.main"]["output"]
    assert list(output.logs) == ["reconstruction", "cross_entropy", "dice"]
    assert output.loss.item() == pytest.approx(sum(v.item() for v in output.logs.values()), rel=1e-6)
    with torch.inference_mode():
        prediction = network.predict(batch.image, available)
    assert output.logs["reconstruction"].item() == pytest.approx(
        (prediction.image - batch.image).abs().mean().item(), rel=1e-4
    )
    p = prediction.logits.softmax(1).double()
    g = Head("softmax", ("background", "ncr", "edema", "et")).target(batch.label).double()
    assert output.logs["cross_entropy"].item() == pytest.approx(-(g * p.log()).sum(1).mean().item(), rel=1e-4)
    dice = sum(2 * (p * g)[0, c].sum() / (p[0, c].sum() + g[0, c].sum()) for c in range(4)) / 4
    assert output.logs["dice"].item() == pytest.approx(1 - dice.item(), rel=1e-4)


def test_what_is_hidden_is_rebuilt_and_what_is_absent_is_not(network):
    present = torch.tensor([[True, True, True, False]])
    gradients = run_turns(network, make_batch(SIZE, present, GLIOMA.available(("t1",))[None]))["train.main"][
        "gradients"
    ]
    assert gradients["images.t2.last.weight"].abs().sum() > 0
    assert gradients["images.flair.last.weight"].abs().sum() == 0
    assert "representations.t2.decoder.classifier.weight" not in gradients


def test_alignment_is_the_variance_of_the_shown_maps():
    network = build(alignment_weight=0.5)
    batch = make_batch(SIZE, ALL, GLIOMA.available(("t1", "flair"))[None])
    output = run_turns(network, batch)["train.main"]["output"]
    features = network.encode(batch.image, batch.available)
    expected = (((features["t1"] - features["flair"]) / 2) ** 2).mean()
    assert output.logs["alignment"].item() == pytest.approx(expected.item(), rel=1e-4)
    rest = sum(v.item() for k, v in output.logs.items() if k != "alignment")
    assert output.loss.item() == pytest.approx(rest + 0.5 * expected.item(), rel=1e-5)
    alone = run_turns(network, batch._replace(available=GLIOMA.available(("t1",))[None]))["train.main"]["output"]
    assert "alignment" not in alone.logs


def test_in_stages_the_segmentation_learns_on_a_frozen_representation():
    network = build(training="staged")
    assert [stage.name for stage in network.stages] == ["representation", "segmentation"]
    results = run_turns(network, make_batch(SIZE, ALL, ALL))
    parts = {turn: {key.partition(".")[0] for key in result["gradients"]} for turn, result in results.items()}
    assert parts == {"representation.main": {"representations", "images"}, "segmentation.main": {"segmentation"}}
    assert list(results["representation.main"]["output"].logs) == ["reconstruction"]
    assert list(results["segmentation.main"]["output"].logs) == ["cross_entropy", "dice"]


def test_how_many_sequences_there_are_does_not_matter_only_what_they_agree_on(network):
    """The claim: one network for the task takes the representation of any subset as its image."""
    network.representations.update(dict.fromkeys(GLIOMA.modalities, network.representations["t1"]))
    image = torch.randn(1, 1, *SIZE).expand(-1, 4, -1, -1, -1)
    with torch.inference_mode():
        predictions = [network.predict(image, GLIOMA.available(subset)[None]) for subset in GLIOMA.subsets()]
    for prediction in predictions:
        torch.testing.assert_close(prediction.logits, predictions[0].logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(prediction.image, predictions[0].image, atol=1e-4, rtol=1e-4)
