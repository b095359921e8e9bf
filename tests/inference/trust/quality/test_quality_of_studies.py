"""Quality of studies: simulated artifacts are seen and named, and nothing but the image counts."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.inference.trust.quality import ARTIFACTS, judge_study
from anymri.inference.trust.quality.judge import judge_image
from anymri.inference.trust.quality.measures import measure_brain, small_brain
from anymri.phantom import PhantomSettings, make_subject

STEP_MM = 3.0
SPOILED = {"t1": "rf_overflow", "t1c": "missing_slices", "flair": "ghosting"}


def volume(array: np.ndarray, step_mm: float = STEP_MM) -> Volume:
    depth, height, width = array.shape
    return Volume(array.astype(np.float32), Geometry(np.diag([step_mm] * 3 + [1.0]), (width, height, depth)), "test")


@pytest.fixture(scope="module")
def clean() -> dict[str, Volume]:
    """A phantom that the numbers of the judge have not seen."""
    return {
        code: volume(image) for code, image in make_subject(81, 0, PhantomSettings(spacing_mm=STEP_MM)).images.items()
    }


@pytest.fixture(scope="module")
def spoiled() -> dict[str, Volume]:
    settings = PhantomSettings(spacing_mm=STEP_MM, artifacts={f"{code}:{name}": 0.9 for code, name in SPOILED.items()})
    return {code: volume(image) for code, image in make_subject(81, 0, settings).images.items()}


def test_an_unspoiled_phantom_is_usable(clean):
    judged = judge_study(clean)
    assert {code: found.verdict for code, found in judged.sequences.items()} == dict.fromkeys(clean, "usable")
    assert all(set(found.severity) == set(ARTIFACTS) for found in judged.sequences.values())


@pytest.mark.parametrize("code", SPOILED)
def test_an_artifact_is_named_with_its_number(clean, spoiled, code):
    judged = judge_study({**clean, code: spoiled[code]}).sequences
    found = judged.pop(code)
    assert found.verdict != "usable"
    assert max(found.severity, key=lambda name: found.severity[name] or 0) == SPOILED[code]
    assert ARTIFACTS[SPOILED[code]] in found.reason
    assert all(other.verdict == "usable" for other in judged.values())


def test_a_moved_sequence_is_told_from_the_others(clean):
    moved = volume(np.roll(clean["t2"].array, (3, -3), (1, 2)))
    judged = judge_study({**clean, "t2": moved}).sequences
    assert judged["t2"].severity["misregistration"] > 0.5
    assert all((judged[code].severity["misregistration"] or 0) < 0.2 for code in ("t1", "t1c", "flair"))


def test_one_sequence_alone_cannot_be_misregistered(clean):
    assert judge_study({"t1": clean["t1"]}).sequences["t1"].severity["misregistration"] is None


def test_other_sequences_change_nothing_but_the_agreement(clean, spoiled):
    own = {
        name: judge_study({"t1": clean["t1"], "t2": other}).sequences["t1"].severity
        for name, other in (("clean", clean["t2"]), ("spoiled", spoiled["flair"]))
    }
    for name in ARTIFACTS:
        if name != "misregistration":
            assert own["clean"][name] == own["spoiled"][name]


@pytest.mark.parametrize("change", ["scale", "pad", "finer"])
def test_scale_padding_and_a_finer_grid_mean_nothing(clean, change):
    array = clean["flair"].array
    before = measure_brain(small_brain(array, (STEP_MM,) * 3))
    spacing = (STEP_MM,) * 3
    if change == "scale":
        array = array * np.float32(0.125)
    elif change == "pad":
        array = np.pad(array, ((3, 8), (0, 5), (7, 2)))
    else:
        array, spacing = array.repeat(2, 0).repeat(2, 1).repeat(2, 2), (STEP_MM / 2,) * 3
    after = measure_brain(small_brain(array, spacing))
    bound = 1e-3 if change == "finer" else 1e-5
    assert max(abs(before[name] - after[name]) for name in before if name != "both ends most") < max(bound, 0.02)
    severity = judge_image(before)
    assert {name: pytest.approx(value, abs=0.02) for name, value in severity.items()} == judge_image(after)


def test_what_is_no_brain_is_not_judged():
    found = judge_study({"t1": volume(np.pad(np.ones((4, 4, 4)), 10))}).sequences["t1"]
    assert found.severity == {}
    assert found.verdict == "usable"
