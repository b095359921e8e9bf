"""Windows: coverage, averaging, leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensor_study import predict_tensors

from anymri.inference.sliding_window import WindowSettings, window_starts
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, SubsetNotTrained
from anymri.protocol.per_subset import PerSubsetModels
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, STATISTICS, Head, Intensity, Prediction, Stage, UserError

SUBSETS = GLIOMA.subsets()


class Recorder(Method):
    """A method with known numbers: logits = sum of what is shown; images = the mean of what is shown."""

    name = "recorder"
    info = MethodInfo(title="Recorder", family="baseline", task="segmentation", year=2026, reference="test")
    presets = {"paper": Preset((Stage("train", 1, 1, None, "all"),))}
    head = Head("sigmoid", ("wt", "tc", "et"))
    outputs = ("logits", "image", "class_logits")

    def __init__(self, spec=GLIOMA):
        super().__init__(MethodConfig(), spec)
        self.encoded, self.decoded, self.sizes = [], [], []

    def encode(self, image, available, where=None):
        self.sizes.append(image.shape[2:])
        self.encoded.append((where.origin[0].tolist(), spec_name(available[0]), where.volume_shape[0].tolist()))
        return {"image": image, "origin": where.origin}

    def decode(self, features, available, request=EVERYTHING):
        self.decoded.append((features["origin"][0].tolist(), spec_name(available[0])))
        image = features["image"]
        shape = (*available.shape, *[1] * (image.ndim - 2))
        shown = torch.where(available.reshape(shape), image, 0.0)
        mean = shown.sum(1, keepdim=True) / available.sum(1).reshape(-1, *[1] * (image.ndim - 1))
        if request.noise is not None:
            mean = mean + request.noise.normal("x", mean.shape[1], mean.shape[2:])
        synthesised = ~available
        image = torch.where(synthesised.reshape(shape), mean, torch.nan)
        logits = mean.expand(-1, 3, *[-1] * (image.ndim - 2))
        return Prediction(logits, image, synthesised, mean.flatten(1).mean(1)[:, None].expand(-1, 2))


def spec_name(row):
    return GLIOMA.subset_name(row)


def subject(shape=(10, 12, 14), seed=0, absent=()):
    """A study with a different brain box for every modality; absent ones as if deleted before index."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((4, *shape), generator=generator)
    image[image == 0] = 0.1
    boxes = torch.zeros((4, 2, 3), dtype=torch.int64)
    for m in range(4):
        boxes[m] = torch.tensor([[1 + m % 2, 2, m], [shape[0] - m, shape[1] - 1, shape[2] - 1 - m]])
        inside = torch.zeros(shape, dtype=torch.bool)
        inside[tuple(slice(int(a), int(b)) for a, b in boxes[m].T)] = True
        image[m][~inside] = 0
    statistics = torch.tensor([[100.0 + m, 20, 10, 200, 11, 12, 180, 190] for m in range(4)])
    for code in absent:
        m = GLIOMA.index(code)
        image[m], boxes[m], statistics[m] = torch.nan, 0, torch.nan
    return image, statistics, boxes


def equal(first, second):
    pairs = [
        (getattr(first, key), getattr(second, key))
        for key in ("probability", "image", "synthesised", "class_probability")
    ]
    return all(
        (a is None and b is None) or np.array_equal(a.numpy(), b.numpy(), equal_nan=a.dtype.is_floating_point)
        for a, b in pairs
    )


@pytest.mark.parametrize(
    ("size", "window", "overlap"), [(10, 4, 0.5), (11, 4, 0.5), (4, 4, 0.5), (30, 8, 0.25), (9, 4, 0)]
)
def test_windows_cover_the_axis_and_end_flush(size, window, overlap):
    starts = window_starts(0, size, window, overlap)
    covered = {voxel for start in starts for voxel in range(start, start + window)}
    assert covered == set(range(size))
    assert starts == sorted(set(starts))
    assert starts[-1] + window == size


@pytest.mark.parametrize(
    ("window", "box", "starts"),
    [
        (8, (8, 24), [8, 12, 16]),  # as few as cover the box with half a window in common, evenly spaced
        (8, (10, 16), [9]),  # a smaller box lies in the middle
        (8, (0, 3), [-3]),  # also where the array ends
        (8, (28, 30), [25]),
        (8, (-6, 4), [-6, -4]),
    ],
)
def test_windows_cover_no_more_than_the_box(window, box, starts):
    assert window_starts(*box, window, 0.5) == starts


def test_subsets_with_nearly_the_same_brain_share_their_windows_and_others_have_their_own():
    image, statistics, boxes = torch.ones(4, 40, 4, 4), torch.ones(4, 8), torch.tensor([[[9, 0, 0], [23, 4, 4]]] * 4)
    boxes[1, :, 0] = torch.tensor([10, 24])  # one voxel further: the same multiples of eight
    boxes[3, :, 0] = torch.tensor([0, 40])
    method = Recorder().eval()
    predict_tensors(method, image, statistics, boxes, [("t1",), ("t1c",), ("flair",)], window=(16, 8, 8))
    assert [place for place in method.encoded if place[1] == "t1+t1c"] == [([0, 0, 0], "t1+t1c", [16, 8, 8])]
    assert [place[0][0] for place in method.encoded if place[1] == "flair"] == [0, 8, 16, 24]


def test_overlap_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="overlap"):
        window_starts(0, 8, 4, 1.0)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"overlap": 1.0}, "overlap 1.0"), ({"batch_size": 0}, "batch size 0"), ({"window": (4, 4)}, "three sizes"),
        ({"window": (4, 0, 4)}, "at least 1"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values, match):
    with pytest.raises(UserError, match=match):
        WindowSettings(**values)


def test_windows_have_the_size_of_the_training_unless_another_is_asked_for():
    weights = TrainingFacts(window=(8, 9, 10), seed=1)
    assert WindowSettings(overlap=0.1).trained_as(weights) == WindowSettings(window=(8, 9, 10), overlap=0.1)
    assert WindowSettings(window=(4, 4, 4)).trained_as(weights).window == (4, 4, 4)
    assert WindowSettings().trained_as(TrainingFacts()).window is None


@pytest.mark.parametrize("weighting", ["uniform", "gaussian"])
def test_a_voxelwise_method_gives_the_same_in_windows_as_at_once(weighting):
    image, statistics, boxes = subject()
    method = Recorder().eval()
    at_once = predict_tensors(method, image, statistics, boxes, SUBSETS)
    windows = predict_tensors(method, image, statistics, boxes, SUBSETS, window=(4, 4, 6), weighting=weighting)
    for subset in SUBSETS:
        torch.testing.assert_close(windows[subset].probability, at_once[subset].probability)
        torch.testing.assert_close(windows[subset].image, at_once[subset].image, equal_nan=True)


def test_window_of_the_whole_brain_is_a_direct_prediction():
    image, statistics, boxes = subject()
    method = Recorder().eval()
    subset = ("t1", "flair")
    result = predict_tensors(method, image, statistics, boxes, [subset])[subset]
    frame = torch.nn.functional.pad(image, [0, 2, 0, 4, 0, 6])  # to multiples of eight
    direct = method.predict(frame[None], GLIOMA.available(subset)[None], where_of(frame))
    inside = result.slices
    assert torch.equal(result.probability[(slice(None), *inside)], direct.logits.sigmoid()[0][(slice(None), *inside)])


def where_of(image):
    from anymri.types import Where

    return Where(torch.zeros(1, 3), torch.tensor([list(image.shape[1:])]), torch.zeros(1, 3, dtype=torch.bool))


def test_probabilities_are_averaged_not_logits():
    """Two windows disagree by 0 and 4; the mean probability is not the probability of the mean logit."""

    class ByOrigin(Recorder):
        outputs = ("logits",)

        def decode(self, features, available, request=EVERYTHING):
            value = 4.0 * (features["origin"][:, 0] > 0).float()
            size = features["image"].shape[2:]
            return Prediction(logits=value.reshape(-1, 1, 1, 1, 1).expand(-1, 3, *size))

    image, statistics, boxes = torch.ones(4, 6, 4, 4), torch.ones(4, 8), torch.tensor([[[0, 0, 0], [6, 4, 4]]] * 4)
    result = predict_tensors(ByOrigin().eval(), image, statistics, boxes, [("t1",)], window=(4, 4, 4))[("t1",)]
    line = result.probability[0, :, 0, 0]
    high = torch.tensor(4.0).sigmoid()
    torch.testing.assert_close(line, torch.stack([torch.tensor(0.5)] * 2 + [(0.5 + high) / 2] * 2 + [high] * 2))


def test_gaussian_weights_prefer_the_centre():
    class ByOrigin(Recorder):
        outputs = ("logits",)

        def decode(self, features, available, request=EVERYTHING):
            value = 4.0 * (features["origin"][:, 0] > 0).float()
            return Prediction(logits=value.reshape(-1, 1, 1, 1, 1).expand(-1, 3, *features["image"].shape[2:]))

    image, statistics, boxes = torch.ones(4, 12, 8, 8), torch.ones(4, 8), torch.tensor([[[0, 0, 0], [12, 8, 8]]] * 4)
    subset = ("t1",)
    result = predict_tensors(
        ByOrigin().eval(), image, statistics, boxes, [subset], window=(8, 8, 8), weighting="gaussian"
    )[subset]
    line = result.probability[0, :, 4, 4]
    assert line[4] < line[5] < line[6] < line[7]
    assert line[3] == 0.5


def test_a_window_is_encoded_once_and_decoded_only_where_the_subset_has_brain():
    image, statistics, boxes = torch.ones(4, 8, 4, 4), torch.ones(4, 8), torch.tensor([[[0, 0, 0], [8, 4, 4]]] * 4)
    boxes[3] = torch.tensor([[0, 0, 0], [3, 4, 4]])
    boxes[0] = torch.tensor([[0, 0, 0], [4, 4, 4]])
    method = Recorder().eval()
    result = predict_tensors(method, image, statistics, boxes, [("flair",), ("t1",)], window=(4, 8, 8))
    assert method.encoded == [([0, 0, 0], "t1+flair", [8, 8, 8]), ([2, 0, 0], "t1+flair", [8, 8, 8])]
    assert sorted(method.decoded) == sorted(
        [([0, 0, 0], "flair"), ([0, 0, 0], "t1"), ([2, 0, 0], "flair"), ([2, 0, 0], "t1")]
    )
    assert result[("flair",)].stop == (3, 4, 4)
    assert result[("flair",)].probability[:, 3:].max() == 0


def test_padding_gives_negative_origins_and_background():
    image, statistics, boxes = subject((5, 6, 7))
    method = Recorder().eval()
    method.divisor = 4
    predict_tensors(method, image, statistics, boxes, [("t2",)], window=(10, 8, 8))
    assert method.sizes == [(12, 8, 8)]
    assert method.encoded[0][0] == [-2, 0, 0]
    assert method.encoded[0][2] == [8, 8, 8]


@pytest.mark.parametrize("subset", SUBSETS, ids=GLIOMA.subset_name)
@pytest.mark.parametrize("kind", ["zscore", "unit"])
def test_deleted_and_simulated_subsets_agree_bit_for_bit(subset, kind):
    method = Recorder().eval()
    method.intensity = Intensity(kind)
    method.median_statistics = subject()[1][None]
    options = {"window": (4, 8, 6)}
    simulated = predict_tensors(method, *subject(), SUBSETS, **options)[subset]
    absent = [code for code in GLIOMA.modalities if code not in subset]
    deleted = predict_tensors(method, *subject(absent=absent), [subset], **options)[subset]
    assert equal(simulated, deleted)
    assert simulated.probability.isfinite().all()


def test_completed_image_is_real_where_shown_and_zero_outside_the_brain():
    image, statistics, boxes = subject()
    subset = ("t1", "t1c")
    result = predict_tensors(Recorder().eval(), image, statistics, boxes, [subset], window=(6, 6, 6))[subset]
    brain = (image[:2] != 0).any(0)
    assert result.synthesised.tolist() == [False, False, True, True]
    assert torch.equal(result.image[:2], image[:2])
    torch.testing.assert_close(result.image[2][brain], image[:2].mean(0)[brain])
    assert (result.image[2:, ~brain] == 0).all()


def test_a_channel_nobody_made_is_nan():
    class OnlyT2(Recorder):
        def decode(self, features, available, request=EVERYTHING):
            prediction = super().decode(features, available, request)
            synthesised = torch.tensor([[False, False, True, False]]) & ~available
            image = torch.where(synthesised[..., None, None, None], prediction.image, torch.nan)
            return prediction._replace(image=image, synthesised=synthesised)

    image, statistics, boxes = subject()
    result = predict_tensors(OnlyT2().eval(), image, statistics, boxes, [("t1",)])[("t1",)]
    assert result.image[[1, 3]].isnan().all()
    assert result.image[[0, 2]].isfinite().all()


def test_published_intensity_scale_is_applied_and_undone():
    class Copy(Recorder):
        """Copies t1 into every channel on the method's own scale."""

        def decode(self, features, available, request=EVERYTHING):
            self.seen = features["image"]
            image = features["image"][:, :1].expand(-1, 4, -1, -1, -1)
            return Prediction(image=image, synthesised=~available)

    image, statistics, boxes = subject()
    method = Copy().eval()
    method.intensity = Intensity("unit", clip=False)
    method.median_statistics = statistics[[0]].expand(1, 4, -1).clone()
    result = predict_tensors(method, image, statistics, boxes, [("t1",)], outputs=("image",))[("t1",)]
    assert result.probability is None
    raw = image[0] * 20 + 100
    seen = method.seen[0, 0, :10, :12, :14]
    torch.testing.assert_close(seen[image[0] != 0], ((raw - 10) / 190)[image[0] != 0])
    torch.testing.assert_close(result.image[3][image[0] != 0], image[0][image[0] != 0])


def test_without_training_statistics_a_synthesised_scale_is_refused():
    method = Recorder().eval()
    method.intensity = Intensity("unit")
    with pytest.raises(UserError, match="no intensity statistics"):
        predict_tensors(method, *subject(), [("t1",)])


def test_window_batches_agree_with_single_windows():
    method = Recorder().eval()
    one = predict_tensors(method, *subject(), SUBSETS, window=(4, 4, 6))
    several = predict_tensors(method, *subject(), SUBSETS, window=(4, 4, 6), batch_size=5)
    for subset in SUBSETS:
        torch.testing.assert_close(one[subset].probability, several[subset].probability)


def test_more_than_sixteen_subsets_are_predicted_in_turns():
    method = Recorder().eval()
    many = SUBSETS + SUBSETS[:3]
    results = predict_tensors(method, *subject((14, 12, 14)), many)
    assert list(results) == SUBSETS
    assert len(method.encoded) == 2


def test_samples_repeat_by_subject_window_and_subset():
    method = Recorder().eval()
    run = lambda **options: predict_tensors(method, *subject(), [("t1",)], window=(4, 8, 6), **options)[("t1",)]  # noqa: E731
    first = run(sample=0, subject_id="a")
    assert equal(first, run(sample=0, subject_id="a"))
    assert not equal(first, run(sample=1, subject_id="a"))
    assert not equal(first, run(sample=0, subject_id="b"))
    assert not equal(first, run())


def test_slice_networks_get_windows_of_slices_padded_within_slices_alone():
    method = Recorder().eval()
    method.spatial_dims, method.divisor = 2, 8
    image, statistics, boxes = subject()
    flat = predict_tensors(method, image, statistics, boxes, [("t2", "flair")], window=(3, 6, 6))[("t2", "flair")]
    whole = predict_tensors(Recorder().eval(), image, statistics, boxes, [("t2", "flair")])[("t2", "flair")]
    torch.testing.assert_close(flat.probability, whole.probability)
    assert {origin[0] for origin, *_ in method.encoded} == {0, 2, 3, 5}
    assert {tuple(shape) for shape in method.sizes} == {(3, 8, 8)}


def test_a_family_serves_each_subset_by_its_member():
    members = {name: Recorder().eval() for name in ("t1", "t1c+flair")}
    subsets = [("t1",), ("t1c", "flair")]
    together = predict_tensors(PerSubsetModels(members).eval(), *subject(), subsets, window=(6, 8, 8))
    for subset, member in zip(subsets, members.values(), strict=True):
        alone = predict_tensors(Recorder().eval(), *subject(), [subset], window=(6, 8, 8))[subset]
        assert equal(together[subset], alone)
        assert {shown for _, shown in member.decoded} == {GLIOMA.subset_name(subset)}
    with pytest.raises(SubsetNotTrained, match="no network for t2"):
        predict_tensors(PerSubsetModels(members).eval(), *subject(), [("t2",)])


def test_mistakes_of_the_caller_are_refused():
    image, statistics, boxes = subject(absent=["t2"])
    with pytest.raises(ValueError, match="training mode"):
        predict_tensors(Recorder(), image, statistics, boxes, [("t1",)])
    with pytest.raises(ValueError, match="has no t2"):
        predict_tensors(Recorder().eval(), image, statistics, boxes, [("t2",)])
    with pytest.raises(ValueError, match="shape"):
        predict_tensors(Recorder().eval(), image[:3], statistics, boxes, [("t1",)])


def test_a_subset_without_any_brain_is_background():
    image, statistics, boxes = torch.zeros(4, 4, 4, 4), torch.ones(4, len(STATISTICS)), torch.zeros(4, 2, 3).long()
    result = predict_tensors(Recorder().eval(), image, statistics, boxes, [("t1",)])[("t1",)]
    assert torch.equal(result.probability, torch.zeros(3, 4, 4, 4))


def test_a_method_that_claims_every_channel_cannot_overwrite_a_real_one():
    class Everything(Recorder):
        def decode(self, features, available, request=EVERYTHING):
            made = torch.full((1, 4, *features["image"].shape[2:]), 7.0)
            return Prediction(image=made, synthesised=torch.ones_like(available))

    image, statistics, boxes = subject()
    subset = ("t1", "t2")
    result = predict_tensors(Everything().eval(), image, statistics, boxes, [subset], outputs=("image",))[subset]
    assert result.synthesised.tolist() == [False, True, False, True]
    assert torch.equal(result.image[[0, 2]], image[[0, 2]])


def test_each_subset_draws_its_own_noise():
    class Noise(Recorder):
        def decode(self, features, available, request=EVERYTHING):
            drawn = request.noise.normal("x", 3, features["image"].shape[2:])
            return Prediction(logits=drawn)

    image, statistics, boxes = subject()
    boxes[:] = boxes[0]  # one box, so that only the noise can differ
    results = predict_tensors(
        Noise().eval(), image, statistics, boxes, [("t1",), ("t2",)], outputs=("logits",), sample=0
    )
    assert not torch.equal(results[("t1",)].probability, results[("t2",)].probability)


# ------------------------------------------------------------------------------------------- numbers that are none


class Spoilt(Recorder):
    """The recorder, with one value of one output that is no number wherever the last voxel of a row is seen."""

    def __init__(self, output, bad, kind="sigmoid"):
        super().__init__()
        self.output, self.bad = output, bad
        self.head = Head(kind, ("wt", "tc", "et") if kind == "sigmoid" else ("background", "edema", "et"))
        self.outputs = ("logits", "image", "class_logits", "modality_logits")

    def decode(self, features, available, request=EVERYTHING):
        made = super().decode(features, available, request)
        made = made._replace(modality_logits=torch.zeros(len(available), 4, 4))
        if self.output is None or not bool(features["origin"].sum()):
            return made
        spoilt = getattr(made, self.output).clone()
        row = available[0].nonzero()[0, 0] if self.output == "modality_logits" else (~available[0]).nonzero()[0, 0]
        (spoilt[0, row] if self.output in ("image", "modality_logits") else spoilt[0, 1]).view(-1)[0] = self.bad
        return made._replace(**{self.output: spoilt})


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("logits", "sigmoid"),
        ("logits", "softmax"),
        ("image", "sigmoid"),
        ("class_logits", "sigmoid"),
        ("modality_logits", "sigmoid"),
    ],
)
def test_one_output_of_one_window_that_is_no_number_names_the_model(output, kind, bad):
    image, statistics, boxes = subject()
    facts = TrainingFacts(run="run7")
    method = Spoilt(None, bad, kind).eval()
    method.facts = facts
    predict_tensors(method, image, statistics, boxes, [("t1", "flair")], window=(8, 8, 8))
    method = Spoilt(output, bad, kind).eval()
    method.facts = facts
    with pytest.raises(UserError, match=r"^model run7: computes NaN or infinite .* 'case' from t1\+flair; get its"):
        predict_tensors(
            method, image, statistics, boxes, [("t1", "flair")], window=(8, 8, 8), batch_size=2, subject_id="case"
        )


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", ["image", "statistics"])
def test_a_sequence_that_holds_no_numbers_is_named_before_the_model_is_blamed(place, bad):
    image, statistics, boxes = subject()
    method = Recorder().eval()
    method.intensity = Intensity("unit", clip=False)
    method.median_statistics = statistics[None].clone()
    if place == "image":
        image[1, 5, 5, 5] = bad
    else:
        statistics[1, STATISTICS.index("mean")] = bad
    predict_tensors(method, image, statistics, boxes, [("t1", "t2", "flair")])  # what is not shown does not count
    with pytest.raises(UserError, match=r"^subject 'case': its t1c, or the statistics of it, hold NaN or infinite"):
        predict_tensors(method, image, statistics, boxes, [("t1", "t1c")], subject_id="case")
