"""Dropped sequences: they count as missing, and nothing of them reaches the result."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

import anymri.inference.predict as predict
from anymri.inference.output.write import result_facts, write_result
from anymri.inference.trust.quality import judge_study
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.types import UserError

AFFINE = np.diag([-4.0, -4.0, 4.0, 1.0])


@pytest.fixture(scope="module")
def method():
    torch.manual_seed(0)
    method = create("unet", preset="tiny", width=4, depth=2).eval()
    method.facts = TrainingFacts(spacing_mm=(6.0, 6.0, 6.0), window=(16, 16, 16))
    return method


def study(seed: int = 0, shift: int = 0) -> dict[str, nib.Nifti1Image]:
    """T1 and FLAIR; the seed and shift are those of FLAIR."""
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in (34, 38, 34)), indexing="ij"))
    images = {}
    for code, number, move in (("t1", 7, 0), ("flair", seed, shift)):
        middle = np.reshape((16 + move, 18, 16), (3, 1, 1, 1))
        brain = (((grid - middle) / np.reshape((13, 16, 13), (3, 1, 1, 1))) ** 2).sum(0) < 1
        values = np.random.default_rng(number).integers(80, 160, brain.shape)
        images[code] = nib.Nifti1Image(np.where(brain, values, 0).astype(np.int16), AFFINE)
    return images


@pytest.fixture
def bad(monkeypatch):
    """Sequences that the judge is to call unusable."""
    codes: set[str] = set()

    def judge(volumes, choice="warn"):
        found = judge_study(volumes, choice)
        changed = {
            code: part._replace(verdict="unusable" if code in codes else "usable", reason="motion 0.93")
            for code, part in found.sequences.items()
        }
        return found._replace(sequences=changed)

    monkeypatch.setattr(predict, "judge_study", judge)
    monkeypatch.setattr("anymri.inference.trust.quality.study.judge_study", judge)
    return codes


def find(method, images, quality):
    return predict.predict_study(images, method, check_labels="off", precision="32", quality=quality)


def arrays(result):
    return [
        np.asarray(image.dataobj) for image in (result.segmentation, result.uncertainty, *result.probability.values())
    ]


def test_a_dropped_sequence_leaves_no_trace(method, bad, tmp_path):
    bad.add("flair")
    given = study()
    alone = find(method, {"t1": given["t1"]}, "off")
    for images in (given, study(seed=3, shift=4)):
        result = find(method, images, "drop")
        assert result.available == ("t1",)
        assert "flair" in result.missing
        assert all(np.array_equal(one, other) for one, other in zip(arrays(alone), arrays(result), strict=True))
        assert "flair" not in result.provenance["inputs"]
    facts = result_facts(result)["quality"]
    assert facts["dropped"] == ["flair"]
    assert facts["sequences"]["flair"]["reason"] == "motion 0.93"
    out = write_result(result, tmp_path / "out")
    assert (out / facts["sequences"]["flair"]["picture"]).read_bytes().startswith(b"\x89PNG")
    assert "left out (unusable)" in (out / "report.html").read_text()
    assert any("FLAIR was left out as unusable: motion 0.93" in warning for warning in result.warnings)


def test_warning_keeps_all_sequences(method, bad):
    bad.add("flair")
    result = find(method, study(), "warn")
    assert result.available == ("t1", "flair")
    assert any("FLAIR looks unusable: motion 0.93; --quality drop leaves it out" in text for text in result.warnings)
    assert find(method, study(), "off").quality is None


def test_at_least_one_sequence_must_be_left(method, bad):
    bad.update({"t1", "flair"})
    with pytest.raises(UserError, match="no sequence is usable") as refusal:
        find(method, study(), "drop")
    assert "\n" not in str(refusal.value)
