"""What a model card's numbers say of a result, and which regions cannot be known."""

from __future__ import annotations

from pathlib import Path

import pytest

from anymri.inference.trust.measured import low_warning, measured_summary, trust_line, unknown_regions
from anymri.types import GLIOMA, DataSpec
from anymri.zoo import ModelCard

LESION = DataSpec(("t1", "flair"), {"lesion": 1}, {"lesion": ("lesion",)})


def card(by_subset):
    return ModelCard(
        name="some", method="unet", summary="s", modalities=GLIOMA.modalities, data="d", seed=0, command="c",
        licence="l", limits="l", path=Path("some.safetensors"),
        numbers={"measured_on": "six cases", "by_subset": by_subset},
    )  # fmt: skip


def scores(whole, core=0.7, n=6):
    return {
        "whole_tumor": {"mean": 0.5, "median": whole, "n": n},
        "tumor_core": {"mean": 0.5, "median": core, "n": n},
        "enhancing_tumor": {"mean": None, "median": None, "n": 0, "without": 6, "left_empty": 1, "false_ml": 2.5},
    }


@pytest.mark.parametrize(("median", "said"), [(0.2, True), (0.499, True), (0.5, False), (0.9, False)])
def test_a_subset_that_misses_half_of_the_tumours_is_said_first(median, said):
    measured = measured_summary(card({"t1": scores(median)}), GLIOMA, ("t1",))
    found = low_warning(measured, GLIOMA, ("t1",))
    assert bool(found) is said
    assert ("whole_tumor" in measured["low"]) is said


def test_the_sentence_names_sequences_median_and_patients():
    measured = measured_summary(card({"t1+t1c+t2": scores(0.2)}), GLIOMA, ("t1", "t1c", "t2"))
    (sentence,) = low_warning(measured, GLIOMA, ("t1", "t1c", "t2"))
    assert sentence.startswith(
        "From T1, T1c and T2 this model misses most tumours: median Dice 0.20 on 6 unseen patients."
    )
    alone = measured_summary(card({"t1": scores(0.2, n=13)}), GLIOMA, ("t1",))
    assert "From T1 alone" in low_warning(alone, GLIOMA, ("t1",))[0]
    assert "on 13 unseen patients" in low_warning(alone, GLIOMA, ("t1",))[0]


def test_a_smaller_region_is_called_low_beside_its_volume_only():
    measured = measured_summary(card({"flair": scores(0.8, core=0.3)}), GLIOMA, ("flair",))
    assert low_warning(measured, GLIOMA, ("flair",)) == []
    assert measured["low"] == ["tumor_core"]
    assert trust_line(measured, "tumor_core") == "low: median Dice 0.30 on 6 unseen patients"
    assert trust_line(measured, "whole_tumor") == "median Dice 0.80 on 6 unseen patients"
    assert trust_line(measured, "enhancing_tumor") == "not measured: no unseen patient had one"


def test_other_subsets_and_models_without_a_card_promise_nothing():
    known = card({"t1": scores(0.2)})
    for measured in (measured_summary(known, GLIOMA, ("t2",)), measured_summary(None, GLIOMA, ("t1",))):
        assert measured is None
        assert low_warning(measured, GLIOMA, ("t1",)) == []
        assert trust_line(measured, "whole_tumor") == "not measured with these sequences"


def test_lesions_are_called_lesions():
    low = card({"t1": {"lesion": {"mean": 0.1, "median": 0.1, "n": 4}}})
    (sentence,) = low_warning(measured_summary(low, LESION, ("t1",)), LESION, ("t1",))
    assert sentence.startswith("From T1 alone this model misses most of the lesion")


@pytest.mark.parametrize("subset", GLIOMA.subsets())
def test_enhancing_tumour_is_unknown_without_t1c(subset):
    unknown = unknown_regions(list(GLIOMA.regions), subset)
    assert unknown.keys() == (set() if "t1c" in subset else {"enhancing_tumor"})
    assert all("needs T1c" in reason for reason in unknown.values())
    assert unknown_regions(["lesion"], subset) == {}
