"""The shared words: subsets, heads, intensity scales."""

import json
import math

import pytest
import torch

from anymri.modalities import MODALITIES, get_modality
from anymri.types import GLIOMA, STATISTICS, DataSpec, Head, Intensity, StepOutput


def test_fifteen_subsets_in_the_order_of_the_specification():
    subsets = GLIOMA.subsets()
    assert len(subsets) == 15
    assert subsets[0] == ("t1",)
    assert subsets[-1] == GLIOMA.modalities
    assert GLIOMA.parse_subset("flair + t1c") == ("t1c", "flair")
    assert GLIOMA.subset_name(GLIOMA.available(("flair", "t1c"))) == "t1c+flair"


@pytest.mark.parametrize("text", ["", "t1+t1", "t1ce"])
def test_a_wrong_subset_is_refused(text):
    with pytest.raises(ValueError, match=r"modalities|not one of"):
        GLIOMA.parse_subset(text)


def test_a_modality_named_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        DataSpec(modalities=("t1", "t1"))


def test_softmax_target_is_one_hot_in_the_order_of_the_channels():
    head = Head("softmax", ("background", "ncr", "edema", "et"))
    target = head.target(torch.tensor([[0, 1, 2, 3]]))
    torch.testing.assert_close(target[0], torch.eye(4))


def test_sigmoid_target_names_regions():
    head = Head("sigmoid", ("et", "tc", "wt"))
    target = head.target(torch.tensor([[0, 1, 2, 3]]))
    assert target[0].tolist() == [[0, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("kind", ["unit", "symmetric", "mean", "deviations"])
def test_intensity_goes_there_and_back(kind):
    statistics = torch.tensor([100.0, 20.0, 10.0, 200.0, 12.0, 20.0, 180.0, 195.0]).reshape(1, 1, len(STATISTICS))
    raw = torch.tensor([50.0, 100.0, 150.0]).reshape(1, 1, 3)
    cached = (raw - 100) / 20
    cached[0, 0, 1] = 1e-3  # a brain voxel is never exactly 0 in the cache
    scale = Intensity(kind)
    mapped = scale.apply(cached, statistics)
    torch.testing.assert_close(scale.invert(mapped, statistics), cached, atol=1e-4, rtol=0)
    background = scale.apply(torch.zeros(1, 1, 1), statistics).item()
    assert background == {"unit": 0.0, "symmetric": -1.0, "mean": 0.0, "deviations": -1.0}[kind]


# ------------------------------------------------------------------------------------------------- specification


def test_a_specification_survives_json():
    spec = DataSpec(("flair", "dwi"), labels={"lesion": 4}, regions={"lesion": ("lesion",)})
    again = DataSpec(**json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert hash(spec) != hash(GLIOMA)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"modalities": ()}, "at least one"),
        ({"modalities": ("t1ce",)}, "unknown modality 't1ce'"),
        ({"regions": {"all": ("ncr", "cyst")}}, "unknown label 'cyst'"),
    ],
)
def test_an_impossible_specification_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        DataSpec(**settings)


def test_subsets_come_from_the_smallest_to_the_largest_and_never_repeat():
    for number in (1, 2, 3, 5):
        spec = DataSpec(("t1", "t1c", "t2", "flair", "dwi")[:number])
        subsets = spec.subsets()
        assert len(set(subsets)) == 2**number - 1
        assert [len(subset) for subset in subsets] == sorted(len(subset) for subset in subsets)
        for subset in subsets:
            assert spec.parse_subset(reversed(subset)) == subset
            assert spec.parse_subset(spec.subset_name(spec.available(subset))) == subset


def test_a_subset_is_named_in_the_order_of_the_specification():
    spec = DataSpec(("flair", "t1c", "t1"))
    assert spec.subset_name(("t1", "flair")) == "flair+t1"
    assert spec.available(["t1", "flair"]).tolist() == [True, False, True]
    assert spec.index("t1c") == 1
    with pytest.raises(ValueError):
        spec.index("t2")


def test_regions_are_unions_of_labels():
    assert GLIOMA.region_values("whole_tumor") == (1, 2, 3)
    assert GLIOMA.region_values("tumor_core") == (1, 3)
    assert GLIOMA.region_values("enhancing_tumor") == (3,)


# ---------------------------------------------------------------------------------------------------------- head


def test_a_label_that_no_softmax_channel_names_falls_to_background():
    target = Head("softmax", ("background", "et")).target(torch.tensor([[0, 1, 2, 3]]))
    assert target[0].tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]


def test_softmax_channels_may_come_in_any_order():
    target = Head("softmax", ("et", "background", "edema", "ncr")).target(torch.tensor([[[3, 0], [2, 1]]]))
    assert target.shape == (1, 4, 2, 2)
    assert target.argmax(1)[0].tolist() == [[0, 1], [2, 3]]


def test_a_softmax_head_takes_et_as_the_label_and_a_sigmoid_head_as_the_region():
    spec = DataSpec(
        labels={"ncr": 1, "edema": 2, "et": 3, "core": 4},
        regions={"whole_tumor": ("ncr", "edema", "et", "core"), "enhancing_tumor": ("et", "core")},
    )
    assert Head("softmax", ("background", "et")).values("et", spec) == (3,)
    assert Head("sigmoid", ("et",)).values("et", spec) == (3, 4)


def test_an_unknown_channel_is_refused():
    with pytest.raises(ValueError, match="'tc' is neither a label nor a region"):
        Head("softmax", ("background", "tc")).target(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="'liver'"):
        Head("sigmoid", ("liver",)).target(torch.zeros(1, 2))


def test_probabilities_of_both_kinds():
    logits = torch.tensor([[0.0, math.log(3.0)]])[..., None]
    assert Head("softmax", ("background", "et")).probability(logits).flatten().tolist() == pytest.approx([0.25, 0.75])
    assert Head("sigmoid", ("wt", "et")).probability(logits).flatten().tolist() == pytest.approx([0.5, 0.75])


# ----------------------------------------------------------------------------------------------------- intensity


def test_intensity_by_hand():
    row = dict.fromkeys(STATISTICS, 0.0) | {"mean": 100.0, "std": 20.0, "min": 50.0, "max": 250.0}
    statistics = torch.tensor([list(row.values())])[None]
    image = torch.tensor([[[0.0, 1.0, -5.0, 10.0]]])  # background, raw 120, raw 0, raw 300
    unit = Intensity("unit").apply(image, statistics).flatten().tolist()
    assert unit == pytest.approx([0.0, 0.35, 0.0, 1.0])
    assert Intensity("symmetric").apply(image, statistics).flatten().tolist() == pytest.approx([-1.0, -0.3, -1.0, 1.0])
    assert Intensity("unit", clip=False).apply(image, statistics)[0, 0, 3].item() == pytest.approx(1.25)
    assert Intensity("mean").apply(image, statistics).flatten().tolist() == pytest.approx([0.0, 1.2, 0.0, 3.0])
    deviations = Intensity("deviations", width=8.0).apply(image, statistics).flatten().tolist()
    assert deviations == pytest.approx([-0.625, 0.125, -0.625, 1.0])  # background is raw 0, five deviations down
    assert torch.equal(Intensity().apply(image, statistics), image)


@pytest.mark.parametrize("kind", ["zscore", "unit", "symmetric", "mean", "deviations"])
def test_intensity_keeps_absent_channels_nan_and_the_others_clean(kind):
    statistics = torch.tensor([100.0, 20.0, 10.0, 200.0, 12.0, 20.0, 180.0, 195.0]).repeat(1, 2, 1)
    statistics[0, 1] = torch.nan
    image = torch.tensor([[[0.5, 0.0], [torch.nan, torch.nan]]])
    mapped = Intensity(kind).apply(image, statistics)
    assert mapped[0, 0].isfinite().all()
    assert mapped[0, 1].isnan().all()


# ---------------------------------------------------------------------------------------------------- modalities


def test_every_modality_knows_its_own_code():
    assert all(modality.code == code for code, modality in MODALITIES.items())
    assert get_modality("flair").bids_suffix == "FLAIR"
    assert not get_modality("ct").positive
    with pytest.raises(KeyError, match="t1ce"):
        get_modality("t1ce")


def test_a_loss_is_the_weighted_sum_of_its_terms():
    value = torch.tensor(2.0, requires_grad=True)
    terms = {"dice": value, "cross_entropy": 3 * value, "kl": value**2}
    output = StepOutput.of(terms, {"dice": 0.5, "kl": 0.0})
    output.loss.backward()
    assert output.loss.item() == 0.5 * 2 + 6
    assert value.grad.item() == 0.5 + 3  # the term of weight 0 teaches nothing, not even NaN
    assert {name: term.item() for name, term in output.logs.items()} == {"dice": 2, "cross_entropy": 6, "kl": 4}
    assert not any(term.requires_grad for term in output.logs.values())
    broken = StepOutput.of({"dice": value, "kl": value * torch.nan}, {"kl": 0.0})
    assert broken.loss.item() == 2
    assert StepOutput.of(terms).loss.item() == 12
    assert StepOutput.of({"dice": value}, {"dice": 0}).loss is None
