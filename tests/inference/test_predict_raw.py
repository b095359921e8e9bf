"""A raw study from files on different grids to a result on each of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from test_predict import AFFINES, EDGE_MM, Bright, native_study
from typer.testing import CliRunner

from anymri.cli import app
from anymri.data.raw.study import RawOptions
from anymri.errors import UserError
from anymri.inference import restore
from anymri.inference.output.raw_result import transform_text
from anymri.inference.predict import predict_study, write_result

#: Nothing is registered: the two images differ in their grids alone.
PLAIN = RawOptions(skip=("bias", "coregistration", "template"), brain_mask="none", spacing_mm=EDGE_MM)


def two_grids() -> tuple[dict[str, nib.Nifti1Image], np.ndarray]:
    """A T1 and a FLAIR of the same object; the FLAIR has its axes mirrored, as other scanners store them."""
    images, lesion = native_study(AFFINES["RAS"], (26, 28, 22))
    flair = images["flair"]
    affine = flair.affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = flair.affine[:3, :3] @ (25, 27, 0)
    mirrored = nib.Nifti1Image(np.asarray(flair.dataobj)[::-1, ::-1].copy(), affine)
    return {"t1": images["t1"], "flair": mirrored}, lesion


def test_the_result_is_on_every_native_grid(tmp_path: Path) -> None:
    images, lesion = two_grids()
    result = predict_study(images, Bright(), raw=PLAIN)
    folder = write_result(result, tmp_path / "result")
    label = nib.load(folder / "segmentation.nii.gz")
    other = nib.load(folder / "native" / "flair_segmentation.nii.gz")
    assert np.allclose(label.affine, images["t1"].affine)
    assert np.allclose(other.affine, images["flair"].affine)
    found = np.asarray(label.dataobj) > 0
    assert found.sum() > 0.8 * lesion.sum()
    assert not (found & ~lesion).any()
    assert np.array_equal(np.asarray(other.dataobj)[::-1, ::-1], np.asarray(label.dataobj))
    assert not (folder / "native" / "t1_segmentation.nii.gz").exists()
    counted = float((np.asarray(label.dataobj) > 0).sum()) * EDGE_MM**3 / 1000
    assert result.volumes_ml["whole_tumor"] == pytest.approx(counted)


def test_probabilities_of_a_raw_study_are_on_the_grid_of_its_segmentation(tmp_path: Path) -> None:
    images, _ = two_grids()
    folder = write_result(predict_study(images, Bright(), raw=PLAIN), tmp_path / "result", probabilities=True)
    label = nib.load(folder / "segmentation.nii.gz")
    whole = nib.load(folder / "probability_whole_tumor.nii.gz")
    assert np.allclose(whole.affine, label.affine)
    assert whole.shape == label.shape
    assert (np.asarray(whole.dataobj)[np.asarray(label.dataobj) > 0] > 0.5).all()
    assert nib.load(folder / "uncertainty.nii.gz").shape == label.shape


def test_probabilities_are_brought_to_the_aligned_grid_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    bring = restore._restore

    def spy(values, *places):
        shapes.append(tuple(values.shape[:-3]))
        return bring(values, *places)

    monkeypatch.setattr(restore, "_restore", spy)
    predict_study(two_grids()[0], Bright(), raw=PLAIN)
    assert sorted(shapes) == [(1,), (len(Bright.head.channels),)]  # entropy, probabilities


def test_what_was_done_is_written_down(tmp_path: Path) -> None:
    images, _ = two_grids()
    folder = write_result(predict_study(images, Bright(), raw=PLAIN), tmp_path / "result")
    facts = json.loads((folder / "raw" / "provenance.json").read_text(encoding="utf-8"))
    assert facts["reference"] == "t1"
    assert facts["skipped"] == ["bias", "coregistration", "template"]
    assert (folder / "raw" / "check.png").read_bytes().startswith(b"\x89PNG")
    assert "How the raw study was prepared" in (folder / "report.html").read_text(encoding="utf-8")
    transform = sitk.ReadTransform(str(folder / "raw" / "t1_to_flair.tfm"))
    assert np.allclose(transform.TransformPoint((3.0, 4.0, 5.0)), (3, 4, 5))


def test_transform_files_are_in_itk_s_directions(tmp_path: Path) -> None:
    matrix = np.array([[0.9, 0.1, 0, 4], [-0.1, 0.95, 0.2, 5], [0, -0.2, 1.0, 6], [0, 0, 0, 1]])
    (tmp_path / "x.tfm").write_text(transform_text(matrix), encoding="utf-8")
    transform = sitk.ReadTransform(str(tmp_path / "x.tfm"))
    ras = matrix @ (10, 20, 30, 1)
    assert np.allclose(transform.TransformPoint((-10.0, -20.0, 30.0)), (-ras[0], -ras[1], ras[2]))


def test_a_raw_study_is_refused_with_the_remedy() -> None:
    images, _ = two_grids()
    images["flair"] = images["flair"].slicer[:, :-2]
    with pytest.raises(UserError, match="--raw"):
        predict_study(images, Bright())


def test_options_of_raw_studies_need_raw(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["predict", "--t1", "a.nii.gz", "--skip", "bias", "-o", str(tmp_path / "out")])
    assert isinstance(run.exception, UserError)
    assert "add --raw" in str(run.exception)
