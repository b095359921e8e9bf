"""Checks of `encode` and `decode`: what is not shown has no influence, whatever it holds."""

from __future__ import annotations

import re
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from anymri.inference.kernels import SameKernels
from anymri.methods import PerSubsetModels, SubsetNotTrained
from anymri.protocol.method import Method, divisors
from anymri.protocol.noise import Noise
from anymri.protocol.request import Request
from anymri.testing.batches import POISONS, SUBSETS, size_for
from anymri.testing.candidate import Candidate, main_output, only_synthesises, predict, predict_pair
from anymri.testing.expect import demand, demand_same, refuses
from anymri.testing.training_run import run_turns
from anymri.types import GLIOMA, DataSpec, Prediction, UserError

__all__ = ["CHECKS"]

#: Parts of a prediction that can be asked for.
OUTPUTS = ("logits", "image", "class_logits", "modality_logits")
FIVE = DataSpec(
    ("t1", "t1c", "t2", "flair", "dwi"), labels={"lesion": 1, "core": 2}, regions={"lesion": ("lesion", "core")}
)


def _noisy(candidate: Candidate, seeds: tuple[int, int] = (1, 2), kind: str = POISONS[0]) -> Prediction:
    """Of `predict_pair`, sampled."""
    return predict_pair(candidate, Request(noise=Noise(seeds)), kind)


def every_subset_gives_a_finite_output_of_the_right_shape(candidate: Candidate) -> None:
    method, rows = candidate.method, candidate.rows
    image, _, prediction = candidate.given("NaN")
    size = tuple(image.shape[2:])
    if "logits" in method.outputs:
        assert prediction.logits is not None
        assert method.head is not None
        demand(
            prediction.logits.shape == (len(rows), len(method.head.channels), *size),
            f"logits have the shape {tuple(prediction.logits.shape)}",
        )
        demand(prediction.logits.isfinite().all(), "logits are not finite")
    if "image" in method.outputs:
        assert prediction.image is not None
        assert prediction.synthesised is not None
        demand(prediction.image.shape == (len(rows), 4, *size), f"images of shape {tuple(prediction.image.shape)}")
        demand(prediction.synthesised.shape == (len(rows), 4), "synthesised is not (B, M)")
        finite = prediction.image.flatten(2).isfinite().all(2)
        demand(torch.equal(finite, prediction.synthesised), "images are finite where not synthesised, or NaN where so")
        if method.subsets == "any":
            demand((prediction.synthesised | rows).all(), "a modality is neither there nor synthesised")
    if "class_logits" in method.outputs:
        assert prediction.class_logits is not None
        demand(prediction.class_logits.shape[:1] == rows.shape[:1], "class logits are not (B, K)")
        demand(prediction.class_logits.ndim == 2, "class logits are not (B, K)")
        demand(prediction.class_logits.isfinite().all(), "class logits are not finite")


def bfloat16_predicts_nearly_the_same(candidate: Candidate) -> None:
    row = candidate.rows[-2:][:1]
    # Of the usual size: normalising the four voxels that are left of fewer slices enlarges rounding.
    image = candidate.images(size_for(candidate.method))[:1]
    exact = main_output(predict(candidate.method, image, row))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = main_output(predict(candidate.method, image, row)).float()
    demand(rounded.isfinite().all(), "not finite in bfloat16")
    demand((rounded - exact).std() <= 0.2 * exact.std(), "another answer in bfloat16")


def only_what_is_asked_for_is_decoded(candidate: Candidate) -> None:
    method, everything = candidate.method, candidate.once(predict_pair)
    for output in method.outputs:
        part = predict_pair(candidate, Request(outputs=(output,)))
        given = [
            key for key in ("logits", "image", "class_logits", "modality_logits") if getattr(part, key) is not None
        ]
        demand(given == [output], f"asked for {output}, got {', '.join(given)}")
        torch.testing.assert_close(getattr(part, output), getattr(everything, output), equal_nan=True)


def absent_voxels_never_reach_the_prediction(candidate: Candidate) -> None:
    """Three contents of the channels that do not exist, one result."""
    first = candidate.given(POISONS[0]).prediction
    for kind in POISONS[1:]:
        words = f"absent sequences hold {kind} instead of {POISONS[0]}"
        demand_same(candidate.given(kind).prediction, first, words)
        demand_same(_noisy(candidate, kind=kind), candidate.once(_noisy), f"{words}, with noise")


def features_of_a_subset_come_from_its_sequences_alone(candidate: Candidate) -> None:
    """What `encode` gives for S is the same, bit for bit, whatever the channels outside S hold."""
    features = candidate.given(POISONS[0]).features
    for kind in POISONS[1:]:
        words = f"channels outside S hold {kind} instead of {POISONS[0]}"
        demand_same(candidate.given(kind).features, features, words)


def a_subset_decodes_the_same_from_more_features(candidate: Candidate) -> None:
    """``decode(encode(x, T), S) == decode(encode(x', S), S)``, where x' holds something else outside S."""
    method, rows = candidate.method, candidate.rows
    # For S = T there is nothing to compare.
    supersets = [[more for more in SUBSETS if not (row & ~more).any() and (row != more).any()] for row in rows]
    demand(sum(map(len, supersets)) == 50 or method.subsets != "any", "a subset is not served")
    alone: dict[int, Prediction] = {}
    for turn in range(max(map(len, supersets))):
        # Every S with its next T. Bits can depend on how many rows there are and on their places: a row that has had
        # all its T stays, as S = T, while most others have some left.
        chosen = [row for row, more in enumerate(supersets) if turn < len(more)]
        if 2 * len(chosen) > len(rows):
            chosen = list(range(len(rows)))
        encoded = torch.stack([[*supersets[row], rows[row]][min(turn, len(supersets[row]))] for row in chosen])
        with torch.inference_mode():
            more = method.decode(method.encode(candidate.image[chosen], encoded), rows[chosen])
        kind = POISONS[turn % len(POISONS)]
        if len(chosen) == len(rows):
            alone[len(rows)] = candidate.given(kind).prediction
        elif len(chosen) not in alone:
            alone[len(chosen)] = predict(method, candidate.given(kind).image[chosen], rows[chosen])
        demand_same(more, alone[len(chosen)], "T's features change what S gives")


def a_subset_decodes_the_same_from_all_features_one_window_at_a_time(candidate: Candidate) -> None:
    method, image, rows = candidate.method, candidate.image[:1], candidate.rows
    with torch.inference_mode():
        features = method.encode(image, torch.ones(1, 4, dtype=torch.bool))
        for row in rows[[0, 4, 9, 12, 14]] if len(rows) == 15 else rows[:1]:
            more = method.decode(features, row[None])
            demand_same(more, method.predict(image, row[None]), "the features of all change what a subset gives")


def a_batch_of_mixed_subsets_equals_its_rows(candidate: Candidate) -> None:
    method, chosen = candidate.method, [0, 2 * len(candidate.rows) // 5, len(candidate.rows) - 1]
    image, rows = candidate.image[chosen], candidate.rows[chosen]
    # Otherwise one row takes another convolution kernel than several, whose sums round differently.
    with SameKernels(len(rows)):
        together = predict(method, image, rows)
        alone = [predict(method, image[i : i + 1], rows[i : i + 1]) for i in range(len(rows))]
    for key in method.outputs:
        whole = getattr(together, key)
        tolerance = 1e-4 * whole[whole.isfinite()].std().item()
        for row, part in zip(whole, alone, strict=True):
            torch.testing.assert_close(getattr(part, key)[0], row, atol=tolerance, rtol=1e-4, equal_nan=True)


def prediction_repeats_and_its_noise_follows_the_seeds(candidate: Candidate) -> None:
    words = "the same input twice"
    demand_same(predict_pair(candidate), candidate.once(predict_pair), words)
    first, other = candidate.once(_noisy), _noisy(candidate, (1, 3))
    demand_same(_noisy(candidate), first, f"{words}, with noise")
    for key in candidate.method.outputs:
        demand_same(getattr(first, key)[0], getattr(other, key)[0], "a row's noise must be its own")


def every_modality_matters(candidate: Candidate) -> None:
    method, image, rows = candidate.method, candidate.image[:1], candidate.rows
    if method.classical:
        raise SkipTest("a classical system may look at one or two modalities")
    everything = rows[-1:]
    if only_synthesises(method) and method.subsets == "any":
        everything = rows[-2:-1]  # with all four there is nothing to fill in
    before = main_output(predict(method, image, everything))
    for modality in everything[0].nonzero().flatten().tolist():
        changed = image.clone()
        changed[:, modality, 3:9, 3:9, 3:9] += 5.0
        after = main_output(predict(method, changed, everything))
        demand(not torch.allclose(after, before, atol=1e-4), f"{method.spec.modalities[modality]} changes nothing")


def windows_need_not_be_cubes(candidate: Candidate) -> None:
    method = candidate.method
    if method.patch is not None:
        raise SkipTest("fixed window")
    steps = [step * -(-8 // step) for step in divisors(method)]
    size = (candidate.size[0], candidate.size[1] + steps[1], candidate.size[2] + 2 * steps[2])
    output = main_output(predict(method, torch.randn(1, 4, *size), candidate.rows[-1:]))
    if output.ndim > 2:  # class logits have no size
        demand(output.shape[2:] == size, f"a window of {size} came back as {tuple(output.shape[2:])}")


def other_numbers_of_modalities(candidate: Candidate) -> None:
    for codes in (("flair",), ("t2", "flair"), ("t1", "t2", "pd")):
        few = len(codes) <= (candidate.cls.source_count or 1)
        if few and (only_synthesises(candidate.method) or hasattr(candidate.method, "target")):
            refuses(lambda: candidate.build(DataSpec(codes)), UserError, "nothing to synthesise")  # noqa: B023
            continue
        _runs(candidate, candidate.build(DataSpec(codes)))


def five_modalities_and_other_labels(candidate: Candidate) -> None:
    method = candidate.build(FIVE)
    prediction, label = _runs(candidate, method)
    if prediction.logits is not None:
        assert method.head is not None
        channels = len(method.head.channels)
        demand(prediction.logits.shape[1] == channels, "logits do not fit the head")
        demand(method.head.target(label, FIVE).shape[1] == channels, "targets do not fit the head")


def _runs(candidate: Candidate, method: Method) -> tuple[Prediction, Tensor]:
    """Predict and train one step; the prediction and the label."""
    batch = candidate.full_batch(method, size=candidate.size)
    assert batch.label is not None
    prediction = predict(method, batch.image, batch.available)
    codes = ", ".join(method.spec.modalities)
    demand(main_output(prediction).isfinite().all(), f"not finite with {codes}")
    if not method.classical:
        for turn, result in run_turns(method, candidate.full_batch(method, rows=1), backward=False).items():
            demand(result["output"].loss.isfinite(), f"{turn}: the loss is not finite with {codes}")
    return prediction, batch.label


def channels_are_named_not_positional(candidate: Candidate) -> None:
    """Permuted sequences with accordingly permuted weights give the same."""
    method = candidate.method
    # Every sequence alone, two, three and all; of the usual size, as sums in another order are rounded otherwise.
    chosen = [0, 1, 2, 3, 5, 10, 14] if len(candidate.rows) == 15 else [0]
    image, rows = candidate.images(size_for(method))[chosen], candidate.rows[chosen]
    order = [3, 1, 0, 2]
    permuted = candidate.build(DataSpec(tuple(GLIOMA.modalities[i] for i in order)))
    weights = method.state_dict()
    for key, axis, codes, new in _per_modality(candidate, method, permuted):
        width = weights[key].shape[axis] // len(codes)
        columns = [codes.index(code) * width + part for code in new for part in range(width)]
        weights[key] = weights[key].index_select(axis, torch.tensor(columns))
    permuted.load_state_dict(weights)
    before, after = predict(method, image, rows), predict(permuted, image[:, order], rows[:, order])
    if before.logits is not None:
        torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=1e-4)
    if before.image is not None:
        torch.testing.assert_close(after.image, before.image[:, order], atol=1e-4, rtol=1e-4, equal_nan=True)
    if before.class_logits is not None:
        torch.testing.assert_close(after.class_logits, before.class_logits, atol=1e-4, rtol=1e-4)


Codes = tuple[str, ...]


def _per_modality(candidate: Candidate, method: Method, permuted: Method) -> list[tuple[str, int, Codes, Codes]]:
    """Weights that hold sequences along an axis instead of by name: key, axis, sequences there, their new order.

    They are the ones whose shape grows with the number of sequences: of the specification, or of the own subset of a
    system with one network per subset. An axis may hold several entries per sequence, one sequence after the other.
    """
    more = [*method.spec.modalities, "dwi"]
    spec = DataSpec(tuple(more), labels=method.spec.labels, regions=method.spec.regions)
    grown = [(candidate.build(spec), method.spec.modalities, permuted.spec.modalities)]
    if method.subsets != "any" and candidate.cls.source_count is None:
        more_shown = candidate.build(subset="t1+t1c+flair")
        grown.append((more_shown, method.subset_modalities, permuted.subset_modalities))
    found = []
    for larger_method, codes, new in grown:
        shapes = larger_method.state_dict()
        for key, value in method.state_dict().items():
            sizes = zip(value.shape, shapes.get(key, value).shape, strict=True)
            found += [
                (key, axis, codes, new)
                for axis, (size, larger) in enumerate(sizes)
                if larger != size and size % len(codes) == 0
            ]
    return found


def a_family_serves_its_subsets_and_refuses_others(candidate: Candidate) -> None:
    method, image = candidate.method, candidate.image
    if method.subsets == "any":
        raise SkipTest("one network for all subsets")
    single = candidate.build(subset="t2")
    family = PerSubsetModels({method.subsets[0]: method, single.subsets[0]: single})
    asked = torch.stack([GLIOMA.available(member.subset_modalities) for member in (single, method)])
    with torch.inference_mode():
        together = main_output(predict(family, image, asked))
        for row, member in enumerate((single, method)):
            alone = main_output(member.predict(image[row : row + 1], asked[row : row + 1]))[0]
            demand_same(together[row], alone, "a member answers otherwise within a family")
    for refusing in (family, method):
        refuses(
            lambda: predict(refusing, image[:1], GLIOMA.available(("t1",))[None]),  # noqa: B023
            SubsetNotTrained,
            rf"has no network for t1; trained subsets: [\w+, ]*{re.escape(method.subsets[0])}",
        )


CHECKS: tuple[Any, ...] = (
    every_subset_gives_a_finite_output_of_the_right_shape,
    bfloat16_predicts_nearly_the_same,
    only_what_is_asked_for_is_decoded,
    absent_voxels_never_reach_the_prediction,
    features_of_a_subset_come_from_its_sequences_alone,
    a_subset_decodes_the_same_from_more_features,
    a_subset_decodes_the_same_from_all_features_one_window_at_a_time,
    a_batch_of_mixed_subsets_equals_its_rows,
    prediction_repeats_and_its_noise_follows_the_seeds,
    every_modality_matters,
    windows_need_not_be_cubes,
    other_numbers_of_modalities,
    five_modalities_and_other_labels,
    channels_are_named_not_positional,
    a_family_serves_its_subsets_and_refuses_others,
)
