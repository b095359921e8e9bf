"""Synthesis in the brain, in the tumour and outside it; and what a frozen segmenter makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.evaluation import metrics
from anymri.evaluation.downstream import downstream_dice, freeze_segmenter
from anymri.evaluation.scoring import score_synthesis_by_place


@pytest.fixture
def pair():
    """A brain of 12 x 12 x 12 with values around 0, and a tumour of 5 x 5 x 5 in which the synthesis is off by 1."""
    rng = np.random.default_rng(0)
    brain = np.zeros((16, 16, 16), bool)
    brain[2:14, 2:14, 2:14] = True
    tumor = np.zeros_like(brain)
    tumor[4:9, 4:9, 4:9] = True
    reference = np.where(brain, rng.normal(size=brain.shape), 0)
    image = reference + 1.0 * tumor + 0.25 * (brain & ~tumor)
    return image, reference, brain, tumor


def values(scores):
    return {score.metric: score.value for score in scores}


def test_errors_of_every_place_by_hand(pair):
    image, reference, brain, tumor = pair
    found = values(score_synthesis_by_place("t2", image, reference, brain, tumor))
    inside, outside = 125, 12**3 - 125
    assert found["mae_tumor"] == pytest.approx(1)
    assert found["mae_outside"] == pytest.approx(0.25)
    assert found["mae"] == pytest.approx((inside + 0.25 * outside) / (inside + outside))
    width = metrics.data_range(reference, brain)
    assert found["psnr_tumor"] == pytest.approx(20 * np.log10(width))
    assert found["psnr_outside"] == pytest.approx(20 * np.log10(width / 0.25))
    assert found["nmse_tumor"] == pytest.approx(inside / (reference[tumor] ** 2).sum())


def test_similarity_of_the_brain_is_the_mean_of_its_places(pair):
    image, reference, brain, tumor = pair
    found = values(score_synthesis_by_place("t2", image, reference, brain, tumor))
    inside, outside = 125, 12**3 - 125
    mean = (inside * found["ssim_tumor"] + outside * found["ssim_outside"]) / (inside + outside)
    assert found["ssim"] == pytest.approx(mean)
    assert found["ssim"] == pytest.approx(metrics.ssim(image, reference, brain, metrics.data_range(reference, brain)))
    assert found["ssim_tumor"] < found["ssim_outside"] < 1


def test_similarity_map_is_scikit_images(pair):
    from skimage.metrics import structural_similarity

    image, reference, brain, _ = pair
    image = np.where(brain, image, 0)
    _, theirs = structural_similarity(reference, image, data_range=5.0, full=True)
    ours = metrics.ssim_map(image, reference, brain, 5.0)
    assert np.allclose(ours[brain], theirs[brain])


def test_what_is_drawn_outside_the_brain_never_counts(pair):
    image, reference, brain, tumor = pair
    before = values(score_synthesis_by_place("t2", image, reference, brain, tumor))
    after = values(score_synthesis_by_place("t2", np.where(brain, image, 9.0), reference, brain, tumor))
    assert after == before


def test_without_tumour_or_without_label(pair):
    image, reference, brain, tumor = pair
    scores = score_synthesis_by_place("t2", image, reference, brain, np.zeros_like(tumor))
    assert {s.metric for s in scores} == {f"{m}{p}" for m in ("mae", "nmse", "psnr", "ssim") for p in ("", "_outside")}
    assert all(s.reference_empty for s in scores)
    plain = score_synthesis_by_place("t2", image, reference, brain)
    assert {s.metric for s in plain} == {"mae", "nmse", "psnr", "ssim"}
    assert not any(s.reference_empty for s in plain)
    assert {s.metric: s.unit for s in plain} == {"mae": "z", "nmse": "1", "psnr": "dB", "ssim": "1"}
    assert score_synthesis_by_place("t2", image, reference, np.zeros_like(brain)) == []


# ------------------------------------------------------------------------------------------------------ downstream


def test_downstream_dice_by_hand():
    label = np.zeros((4, 4, 4), int)
    label[0] = 2
    label[1] = 3
    regions = {"whole_tumor": (1, 2, 3), "enhancing_tumor": (3,), "unknown": (9,)}

    def segmenter(completed):
        return {"whole_tumor": completed[1] > 0.5, "enhancing_tumor": completed[0] > 0.5}

    completed = np.zeros((2, 4, 4, 4))
    completed[1, 0] = 1
    found = downstream_dice(segmenter, completed, label, regions)
    assert found == {"whole_tumor": pytest.approx(2 / 3), "enhancing_tumor": 0}
    completed[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="missing voxels"):
        downstream_dice(segmenter, completed, label, regions)


def test_a_frozen_method_sees_the_completed_study_as_complete(three, mean_method):
    """With the real sequences it gives what it gives for the complete study; a worse synthesis changes that."""

    from anymri.inference.labels import regions
    from anymri.inference.sliding_window import predict_subject

    entry = three.cache.entry(three.names[0])
    image = np.asarray(entry.image, np.float32)
    every = three.cache.spec.modalities
    segmenter = freeze_segmenter(mean_method, entry.statistics)
    complete = predict_subject(mean_method, entry, [every], outputs=("logits",))[every]
    expected = regions(complete.probability, mean_method.head)
    found = segmenter(image)
    assert all(np.array_equal(found[region], expected[region]) for region in expected)
    assert not any(parameter.requires_grad for parameter in mean_method.parameters())
    label, spec = np.asarray(entry.label), three.cache.spec
    values = {region: spec.region_values(region) for region in spec.regions}
    good = downstream_dice(segmenter, image, label, values)
    flat = image.copy()
    flat[spec.index("flair")] = 0
    bad = downstream_dice(segmenter, flat, label, values)
    assert good["whole_tumor"] > bad["whole_tumor"] > 0
