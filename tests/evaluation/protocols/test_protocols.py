"""Every quirk of every protocol by cases that were computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.evaluation.protocols import PROTOCOLS, Crop
from anymri.evaluation.protocols.normalisation import NORMALISATIONS
from anymri.evaluation.protocols.post_processing import close_slices, drop_small_components, drop_small_enhancing
from anymri.evaluation.protocols.replay import (
    Case,
    aggregate,
    compare_protocols,
    dice_epsilon,
    dice_plain,
    dice_smoothed,
    score,
)

WHOLE = (slice(None), slice(None), slice(None))
REGIONS = ("whole_tumor", "tumor_core", "enhancing_tumor")


def mask(shape, *boxes):
    """Boxes given as ((d0, d1), (h0, h1), (w0, w1))."""
    found = np.zeros(shape, bool)
    for box in boxes:
        found[tuple(slice(*ends) for ends in box)] = True
    return found


def values(scores, metric="dice"):
    return {s.target: s.value for s in scores if s.metric == metric}


def as_regions(label):
    return {
        "whole_tumor": label > 0,
        "tumor_core": np.isin(label, (1, 3)),
        "enhancing_tumor": label == 3,
    }


# --------------------------------------------------------------------------------------------------- empty regions


@pytest.mark.parametrize(
    ("rule", "both_empty", "invented", "missed", "half"),
    [
        (dice_plain, 1, 0, 0, 0.5),
        (dice_smoothed, 1, 1 / 10, 1 / 10, 5 / 9),  # nine voxels: (0 + 1) / (9 + 1); (2*2 + 1) / (4 + 4 + 1)
        (dice_epsilon, 1, 1e-8 / 9, 1e-8 / 9, 0.5),
    ],
)
def test_dice_formulas_by_hand(rule, both_empty, invented, missed, half):
    assert rule(0, 0, 0) == both_empty
    assert rule(0, 9, 0) == pytest.approx(invented, rel=1e-6)
    assert rule(0, 0, 9) == pytest.approx(missed, rel=1e-6)
    assert rule(2, 4, 4) == pytest.approx(half)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("anymri", 0), ("A", 1 / 3), ("A-closing", 1 / 3), ("B", 0), ("C", 0), ("D", 0), ("E", 1 / 3), ("rfnet", 0)],
)
def test_two_invented_voxels_of_enhancing_tumour(name, expected):
    """The reference has none. A smoothed Dice forgives it: (0 + 1) / (2 + 0 + 1)."""
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:20, 30:34, 30:34] = 2
    predicted = as_regions(label)
    predicted["enhancing_tumor"] = mask(label.shape, ((12, 14), (31, 32), (31, 32)))
    brain = np.ones((4, 40, 40, 40), bool)
    scores = score(predicted, label, PROTOCOLS[name], brain=brain)
    assert values(scores)["enhancing_tumor"] == pytest.approx(expected, abs=1e-7)
    assert all(s.reference_empty == (s.target != "whole_tumor") for s in scores)


# -------------------------------------------------------------------------------------------------------- cropping


def test_centre_crop_of_protocol_a_on_a_brats_volume():
    box = PROTOCOLS["A"].crop.box((155, 240, 240))
    assert box == (slice(13, 141), slice(24, 216), slice(40, 200))


def test_tumour_outside_the_centre_crop_does_not_count():
    """A missed piece of 1000 voxels at the vertex lies in slices 145 to 154, outside slices 13 to 140."""
    label = np.zeros((155, 240, 240), np.uint8)
    label[60:70, 100:110, 100:110] = 2
    missed = label.copy()
    missed[145:155, 100:110, 100:110] = 2
    predicted = as_regions(label)
    assert values(score(predicted, missed, PROTOCOLS["anymri"]))["whole_tumor"] == pytest.approx(2 / 3)
    assert values(score(predicted, missed, PROTOCOLS["A"]))["whole_tumor"] == 1
    # C keeps slices 5 to 144, columns 24 to 215.
    assert values(score(predicted, missed, PROTOCOLS["C"]))["whole_tumor"] == 1
    assert PROTOCOLS["C"].crop.box(label.shape) == (slice(5, 145), slice(24, 216), slice(24, 216))


def test_crops_are_the_same_millimetres_on_another_grid():
    assert PROTOCOLS["A"].crop.box((78, 120, 120), (2, 2, 2)) == (slice(7, 71), slice(12, 108), slice(20, 100))
    assert PROTOCOLS["C"].crop.box((52, 80, 80), (3, 3, 3)) == (slice(2, 48), slice(8, 72), slice(8, 72))


def test_union_and_intersection_of_brains():
    brain = np.zeros((2, 30, 30, 30), bool)
    brain[0, 5:20, 6:20, 7:20] = True
    brain[1, 10:25, 6:20, 7:20] = True
    assert Crop("union").box((30, 30, 30), brain=brain) == (slice(5, 25), slice(6, 20), slice(7, 20))
    assert Crop("intersection").box((30, 30, 30), brain=brain) == (slice(10, 20), slice(6, 20), slice(7, 20))
    grown = Crop("union", margin=10).box((30, 30, 30), brain=brain)
    assert grown == (slice(0, 30), slice(0, 30), slice(0, 30))
    padded = Crop("union", minimum=18).box((30, 30, 30), brain=brain)
    assert [part.stop - part.start for part in padded] == [20, 18, 18]
    assert all(part.start <= 7 for part in padded)
    with pytest.raises(ValueError, match="brain of every sequence"):
        Crop("union").box((30, 30, 30))


def test_had_net_loses_tumour_that_one_sequence_does_not_cover():
    """The fourth sequence ends at slice 20, so E scores slices 0 to 19 alone whatever the subset."""
    brain = np.ones((4, 40, 20, 20), bool)
    brain[3, 20:] = False
    label = np.zeros((40, 20, 20), np.uint8)
    label[15:25, 5:10, 5:10] = 2
    half = label.copy()
    half[20:] = 0
    predicted = as_regions(half)
    assert values(score(predicted, label, PROTOCOLS["anymri"]))["whole_tumor"] == pytest.approx(2 / 3)
    assert values(score(predicted, label, PROTOCOLS["E"], brain=brain))["whole_tumor"] == 1
    assert values(score(predicted, label, PROTOCOLS["rfnet"], brain=brain))["whole_tumor"] == pytest.approx(2 / 3)


# ------------------------------------------------------------------------------------------------------ label maps


def test_a_label_map_puts_small_regions_inside_large_ones():
    """Sigmoid channels may put enhancing tumour outside the whole tumour; a label map cannot."""
    shape = (20, 20, 20)
    label = np.zeros(shape, np.uint8)
    label[0:10, 0:10, 0:10] = 2
    predicted = {
        "whole_tumor": label > 0,
        "tumor_core": np.zeros(shape, bool),
        "enhancing_tumor": mask(shape, ((10, 20), (0, 10), (0, 10))),
    }
    free = values(score(predicted, label, PROTOCOLS["anymri"]))
    nested = values(score(predicted, label, PROTOCOLS["D"]))
    assert free["whole_tumor"] == 1
    assert free["tumor_core"] == 1
    assert nested["whole_tumor"] == pytest.approx(2000 / 3000)
    assert nested["tumor_core"] == 0
    brain = np.ones((4, *shape), bool)
    assert values(score(predicted, label, PROTOCOLS["B"], brain=brain))["whole_tumor"] == 1


# -------------------------------------------------------------------------------------------------------- cleaning


def test_499_voxels_go_and_500_stay():
    shape = (20, 20, 20)
    full = mask(shape, ((0, 5), (0, 10), (0, 10)))
    less = full.copy()
    less[0, 0, 0] = False
    regions = {"enhancing_tumor": less, "tumor_core": full}
    cleaned = drop_small_enhancing(regions, (1, 1, 1), WHOLE)
    assert not cleaned["enhancing_tumor"].any()
    assert cleaned["tumor_core"].sum() == 500
    assert drop_small_enhancing({"enhancing_tumor": full}, (1, 1, 1), WHOLE)["enhancing_tumor"].sum() == 500
    # 63 voxels of 8 mm3 are 504 mm3.
    small = mask(shape, ((0, 7), (0, 3), (0, 3)))
    assert drop_small_enhancing({"enhancing_tumor": small}, (2, 2, 2), WHOLE)["enhancing_tumor"].sum() == 63


def test_rfnet_reports_enhancing_tumour_both_ways():
    label = np.zeros((30, 30, 30), np.uint8)
    label[5:15, 5:15, 5:15] = 2
    predicted = as_regions(label)
    predicted["enhancing_tumor"] = mask(label.shape, ((6, 8), (6, 8), (6, 8)))
    brain = np.ones((4, 30, 30, 30), bool)
    scores = score(predicted, label, PROTOCOLS["rfnet"], brain=brain)
    assert values(scores)["enhancing_tumor"] == pytest.approx(0, abs=1e-8)
    assert values(scores, "dice_cleaned")["enhancing_tumor"] == 1
    # The clean-up touches no other region.
    for region in ("whole_tumor", "tumor_core"):
        assert values(scores)[region] == values(scores, "dice_cleaned")[region]


def test_components_are_dropped_if_small_or_low():
    """Pieces of 8000, 900, 700 and 1000 voxels: the limit is 800, a tenth of the largest."""
    shape = (60, 60, 60)
    large = ((30, 50), (0, 20), (0, 20))
    kept, small, low = ((30, 40), (30, 39), (0, 10)), ((30, 40), (50, 57), (0, 10)), ((10, 20), (40, 50), (40, 50))
    regions = {"whole_tumor": mask(shape, large, kept, small, low), "tumor_core": mask(shape, small, low, kept)}
    cleaned = drop_small_components(regions, (1, 1, 1), WHOLE)
    assert np.array_equal(cleaned["whole_tumor"], mask(shape, large, kept))
    assert np.array_equal(cleaned["tumor_core"], mask(shape, kept))
    # A piece that reaches above slice 25 stays; the place of a crop counts.
    shifted = drop_small_components(regions, (1, 1, 1), (slice(6, 66), slice(0, 60), slice(0, 60)))
    assert np.array_equal(shifted["whole_tumor"], mask(shape, large, kept, low))


def test_components_of_2000_voxels_stay_beside_a_huge_one():
    """A tenth of 27000 is 2700, but the limit never exceeds 2000."""
    shape = (70, 60, 60)
    huge, two, less = ((30, 60), (0, 30), (0, 30)), ((30, 50), (40, 50), (0, 10)), ((30, 49), (40, 50), (40, 50))
    cleaned = drop_small_components({"whole_tumor": mask(shape, huge, two, less)}, (1, 1, 1), WHOLE)
    assert np.array_equal(cleaned["whole_tumor"], mask(shape, huge, two))


def test_closing_works_slice_by_slice_and_leaves_small_slices():
    shape = (3, 20, 20)
    ring = mask(shape, ((0, 2), (4, 14), (4, 14))) & ~mask(shape, ((0, 2), (6, 12), (6, 12)))
    dots = mask(shape, ((2, 3), (2, 4), (2, 12))) & ~mask(shape, ((2, 3), (2, 4), (6, 8)))  # 16 voxels, a gap
    regions = {"whole_tumor": ring | dots, "enhancing_tumor": ring.copy()}
    cleaned = close_slices(regions, (1, 1, 1), WHOLE)
    assert np.array_equal(cleaned["whole_tumor"][:2], mask(shape, ((0, 2), (4, 14), (4, 14)))[:2])
    assert np.array_equal(cleaned["whole_tumor"][2], dots[2])
    assert np.array_equal(cleaned["enhancing_tumor"], ring)
    border = {"whole_tumor": mask(shape, ((0, 1), (0, 10), (0, 10)))}
    assert np.array_equal(close_slices(border, (1, 1, 1), WHOLE)["whole_tumor"], border["whole_tumor"])


def test_closing_bridges_two_voxels_in_the_core_and_three_in_the_whole_tumour():
    shape = (1, 20, 24)
    gap = mask(shape, ((0, 1), (2, 12), (2, 8)), ((0, 1), (2, 12), (11, 17)))
    cleaned = close_slices({"whole_tumor": gap, "tumor_core": gap.copy()}, (1, 1, 1), WHOLE)
    assert cleaned["whole_tumor"][0, 5, 8:11].all()
    assert not cleaned["tumor_core"][0, 5, 8:11].any()


# ----------------------------------------------------------------------------------------------------- aggregation


def frame(rows):
    import pandas as pd

    table = pd.DataFrame(rows, columns=["subject", "subset", "fold", "value"])
    return table.assign(target="whole_tumor", metric="dice")


def test_means_over_subjects_then_subsets_then_folds():
    """Subset a: subjects 0.2, 0.4, 0.9; subset b, which one subject lacks: 0.6, 1.0."""
    rows = [("p", "a", 0, 0.2), ("q", "a", 0, 0.4), ("r", "a", 1, 0.9), ("p", "b", 0, 0.6), ("q", "b", 0, 1.0)]
    ours = aggregate(frame(rows), PROTOCOLS["anymri"])
    assert ours["value"].tolist() == pytest.approx([(0.5 + 0.8) / 2])
    assert ours["subjects"].tolist() == [3]
    # RFNet averages its splits: split 0 gives (0.3 + 0.8) / 2, split 1 gives 0.9.
    theirs = aggregate(frame(rows), PROTOCOLS["rfnet"])
    assert theirs["value"].tolist() == pytest.approx([(0.55 + 0.9) / 2])


def test_the_same_predictions_under_every_protocol():
    label = np.zeros((40, 40, 40), np.uint8)
    label[10:25, 10:25, 10:25] = 2
    label[14:20, 14:20, 14:20] = 1
    predicted = as_regions(np.where(np.arange(40)[:, None, None] < 24, label, 0))
    predicted["enhancing_tumor"][15, 15, 15:18] = True
    brain = np.ones((4, 40, 40, 40), bool)
    cases = [Case("p", "t1c", predicted, label, brain=brain), Case("q", "t1c", as_regions(label), label, brain=brain)]
    table = compare_protocols(iter(cases))
    assert set(table["protocol"]) == set(PROTOCOLS)
    cell = table.set_index(["protocol", "target", "metric"])
    ours = cell.loc[("anymri", "enhancing_tumor", "dice")]
    assert ours["value"] == pytest.approx(0.5)
    assert ours["subjects"] == 2
    assert ours["difference"] == 0
    assert cell.loc[("A", "enhancing_tumor", "dice"), "difference"] == pytest.approx(1 / 4 / 2)
    assert cell.loc[("rfnet", "enhancing_tumor", "dice_cleaned"), "value"] == 1
    assert cell.loc[("anymri", "whole_tumor", "dice"), "value"] == pytest.approx((2 * 14 / 29 + 1) / 2)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="whole_tumor"):
        score({"whole_tumor": np.zeros((3, 3, 3), bool)}, np.zeros((4, 3, 3), int), PROTOCOLS["anymri"])


# --------------------------------------------------------------------------------------------------- normalisation


def raw_images():
    rng = np.random.default_rng(0)
    images = np.zeros((2, 12, 12, 12))
    images[0, 2:10, 2:10, 2:10] = rng.uniform(100, 200, (8, 8, 8))
    images[1, 4:11, 2:10, 2:10] = rng.uniform(500, 900, (7, 8, 8))
    return images


def test_every_protocol_names_a_normalisation():
    assert {protocol.normalisation for protocol in PROTOCOLS.values()} == set(NORMALISATIONS)
    for scale in NORMALISATIONS.values():
        assert np.isfinite(scale(raw_images())).all()
        assert scale(raw_images()).shape == (2, 12, 12, 12)


def test_means_and_deviations_by_hand():
    images = raw_images()
    union = images.sum(axis=0) > 0
    first = images[0]
    expected = {
        "own_brain": np.where(first != 0, (first - first[first != 0].mean()) / first[first != 0].std(), 0),
        "union_everywhere": (first - first[union].mean()) / first[union].std(),
        "positive_everywhere": (first - first[first > 0].mean()) / first[first > 0].std(),
        "minmax_volume": first / first.max(),
    }
    for name, values in expected.items():
        assert np.allclose(NORMALISATIONS[name](images)[0], values, atol=1e-5), name
    assert NORMALISATIONS["own_brain"](images)[0][0, 0, 0] == 0
    assert NORMALISATIONS["positive_everywhere"](images)[0][0, 0, 0] < -3


@pytest.mark.parametrize(("name", "leaks"), [("union_everywhere", True), ("common_brain_unit", True)])
def test_leaky_rules_change_with_another_sequence_and_ours_does_not(name, leaks):
    images = raw_images()
    other = images.copy()
    other[1] = 0
    other[1, 6:8, 6:8, 6:8] = 700 + np.arange(8).reshape(2, 2, 2)
    changed = not np.array_equal(NORMALISATIONS[name](images)[0], NORMALISATIONS[name](other)[0])
    assert changed == leaks
    for own in ("own_brain", "minmax_volume", "percentile_minmax", "positive_everywhere", "histogram_cut"):
        assert np.array_equal(NORMALISATIONS[own](images)[0], NORMALISATIONS[own](other)[0])


def test_cuts_by_hand():
    image = np.zeros((1, 10, 10, 20))
    image[0, :, :, :10] = 100 + np.arange(1000).reshape(10, 10, 10) % 100
    image[0, 0, 0, 0] = 100000
    cut = NORMALISATIONS["histogram_cut"](image)[0]
    # The one bright voxel, sqrt(999) deviations out, is cut to the end of the first bin: 100 + 99900 / 256.
    assert 10 < cut.max() < 12
    clipped = NORMALISATIONS["percentile_minmax"](image)[0]
    assert clipped.max() == 1
    assert np.count_nonzero(clipped == 1) >= 10
    common = NORMALISATIONS["common_brain_unit"](image)[0]
    assert common.min() == 0
    assert common.max() == 1
