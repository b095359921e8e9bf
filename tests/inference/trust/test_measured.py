"""What a calibration says of a result in words, and which regions cannot be known."""

from __future__ import annotations

import pytest

from anymri.inference.trust.calibration import Calibration, CellCalibration, SubsetCalibration
from anymri.inference.trust.measured import (
    best_addition,
    first_sentences,
    is_low,
    measured_summary,
    trust_line,
    unknown_regions,
    unknown_warnings,
)
from anymri.inference.trust.told import trust_sentences
from anymri.types import GLIOMA, DataSpec
from anymri.zoo import RegionScore

LESION = DataSpec(("t1", "flair"), {"lesion": 1}, {"lesion": ("lesion",)})
ALARM = {"raised": True, "distance": 4.2, "limit": 3.0, "differs_in": ["flair_sharpness", "log_ml"]}


def calibration(by_subset):
    """A calibration with these scores and nothing else."""
    subsets = {
        name: SubsetCalibration(
            studies=6, regions={region: CellCalibration(score=score, residuals=[]) for region, score in scores.items()},
            gain={}, margins_mm=[], no_margin=0, missed=[], features={}, distances=[],
        )
        for name, scores in by_subset.items()
    }  # fmt: skip
    return Calibration(
        weights_sha256="0" * 64, model="some", measured_on="six cases", studies=6, by=[], confidence=0.8,
        margin_share=0.95, missed_share=0.2, thresholds=[], coefficients={}, subsets=subsets,
    )  # fmt: skip


def scores(whole, core=0.7, n=6):
    return {
        "whole_tumor": RegionScore(mean=0.5, median=whole, n=n),
        "tumor_core": RegionScore(mean=0.5, median=core, n=n),
        "enhancing_tumor": RegionScore(mean=None, median=None, n=0, without=6, left_empty=1, false_ml=2.5),
    }


def trust(by_subset, subset, spec=GLIOMA, **more):
    return {"measured": measured_summary(calibration(by_subset), spec, subset), **more}


def expected(low, dice, high):
    return {"expected": {"whole_tumor": {"dice": dice, "low": low, "high": high, "confidence": 0.8, "n": 6}}}


@pytest.mark.parametrize(("median", "said"), [(0.2, True), (0.499, True), (0.5, False), (0.9, False)])
def test_a_subset_that_misses_half_of_the_tumours_is_said_first(median, said):
    known = trust({"t1": scores(median)}, ("t1",))
    assert bool(first_sentences(known, GLIOMA, ("t1",))) is said
    assert ("whole_tumor" in known["measured"]["low"]) is said


def test_the_sentence_names_sequences_median_and_patients():
    three = ("t1", "t1c", "t2")
    (sentence,) = first_sentences(trust({"t1+t1c+t2": scores(0.2)}, three), GLIOMA, three)
    assert sentence.startswith(
        "Not usable from T1, T1c and T2: this model misses most tumours (median Dice 0.20 on 6 unseen patients)."
    )
    (alone,) = first_sentences(trust({"t1": scores(0.2, n=13)}, ("t1",)), GLIOMA, ("t1",))
    assert "from T1 alone" in alone
    assert "on 13 unseen patients" in alone


def test_a_study_that_is_surely_better_than_its_subset_is_not_called_unusable():
    assert first_sentences(trust({"t1": scores(0.2)}, ("t1",), **expected(0.55, 0.7, 0.9)), GLIOMA, ("t1",)) == []
    assert first_sentences(trust({"t1": scores(0.2)}, ("t1",), **expected(0.45, 0.7, 0.9)), GLIOMA, ("t1",))


def test_a_bad_study_of_a_good_subset_is_said_first():
    (sentence,) = first_sentences(trust({"t2": scores(0.8)}, ("t2",), **expected(0.1, 0.4, 0.6)), GLIOMA, ("t2",))
    assert sentence.startswith(
        "The outline of the whole tumour is probably bad in this study: expected Dice 0.10 to 0.60"
    )
    assert sentence.endswith("by 6 unseen patients.")
    assert is_low(trust({"t2": scores(0.8)}, ("t2",), **expected(0.1, 0.4, 0.6)), "whole_tumor")


def test_an_unlike_study_is_told_in_words_and_has_no_number():
    known = trust({"flair": scores(0.8)}, ("flair",), alarm=ALARM, expected={}, gain={})
    (sentence,) = first_sentences(known, GLIOMA, ("flair",))
    assert sentence.startswith("This study is unlike the 6 unseen patients")
    assert "the sharpness of FLAIR and the marked volume" in sentence
    assert trust_line(known, "whole_tumor") == "not known: unlike the patients measured"


def test_a_smaller_region_is_called_low_beside_its_volume_only():
    known = trust({"flair": scores(0.8, core=0.3)}, ("flair",))
    assert first_sentences(known, GLIOMA, ("flair",)) == []
    assert known["measured"]["low"] == ["tumor_core"]
    assert trust_line(known, "tumor_core") == "low: median Dice 0.30 on 6 unseen patients"
    assert trust_line(known, "whole_tumor") == "median Dice 0.80 on 6 unseen patients"
    assert trust_line(known, "enhancing_tumor") == "not measured: no unseen patient had one"


def test_what_is_expected_stands_before_what_was_measured():
    known = trust({"flair": scores(0.8)}, ("flair",), **expected(0.6, 0.75, 0.9))
    assert trust_line(known, "whole_tumor") == "expected Dice 0.60 to 0.90, median Dice 0.80 on 6 unseen patients"


def test_other_subsets_and_models_without_a_calibration_promise_nothing():
    for measured in (measured_summary(calibration({"t1": scores(0.2)}), GLIOMA, ("t2",)), None):
        assert measured is None
        assert first_sentences({"measured": measured}, GLIOMA, ("t1",)) == []
        assert trust_line({"measured": measured}, "whole_tumor") == "not measured with these sequences"
    assert measured_summary(None, GLIOMA, ("t1",)) is None


def test_lesions_are_called_lesions():
    low = trust({"t1": {"lesion": RegionScore(mean=0.1, median=0.1, n=4)}}, ("t1",), LESION)
    (sentence,) = first_sentences(low, LESION, ("t1",))
    assert sentence.startswith("Not usable from T1 alone: this model misses most of the lesion")


def test_only_a_certain_gain_is_recommended():
    def gain(mean, error):
        return {"gain": {"t1c": {"tumor_core": {"mean": mean, "error": error, "n": 9}}}}

    (sentence,) = best_addition(gain(0.2, 0.05))
    assert sentence.startswith("Acquiring T1c would add most: the Dice of the tumour core was higher by 0.20")
    assert best_addition(gain(0.2, 0.15)) == best_addition(gain(0.04, 0.001)) == best_addition(gain(0.9, None)) == []
    assert best_addition(gain(0.2, 0.05) | {"alarm": ALARM}) == []
    assert best_addition({}) == []


def test_a_guess_is_told_with_its_expected_dice():
    unknown = unknown_regions(["enhancing_tumor"], ("flair",))
    (sentence,) = unknown_warnings(unknown, {"enhancing_tumor": {"low": 0.0, "high": 0.35}})
    assert sentence.endswith("(expected Dice 0.00 to 0.35).")


@pytest.mark.parametrize("subset", GLIOMA.subsets())
def test_enhancing_tumour_is_unknown_without_t1c(subset):
    unknown = unknown_regions(list(GLIOMA.regions), subset)
    assert unknown.keys() == (set() if "t1c" in subset else {"enhancing_tumor"})
    assert all("needs T1c" in reason for reason in unknown.values())
    assert unknown_regions(["lesion"], subset) == {}


def test_no_margin_is_told_around_an_outline_that_is_not_to_be_used():
    calm = ALARM | {"raised": False}
    margin = {"mm": 19.0, "share": 0.95, "confidence": 0.8, "n": 13}
    more = {"alarm": calm, "margin": margin, "cautious": None, "gain": {}}
    bad = trust({"t2": scores(0.8)}, ("t2",), **expected(0.0, 0.1, 0.2), **more)
    good = trust({"t2": scores(0.8)}, ("t2",), **expected(0.6, 0.7, 0.8), **more)
    assert not any("19 mm" in sentence for sentence in trust_sentences(bad, GLIOMA))
    assert any("Within 19 mm" in sentence for sentence in trust_sentences(good, GLIOMA))
