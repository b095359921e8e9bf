"""One study from files to a result folder."""

from __future__ import annotations

import json
import resource

import nibabel as nib
import numpy as np
import pytest
import torch

import anymri
from anymri.data.nifti import read_image
from anymri.data.preprocess import preprocess_study
from anymri.inference.predict import load, predict_study, write_result
from anymri.inference.sliding_window import WindowSettings, predict_subject
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.method import Method, MethodConfig, Preset
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, Head, Prediction, Stage, UserError

SUBSETS = GLIOMA.subsets()
#: Edge of a voxel in mm: with few voxels the object still has the size of a small brain.
EDGE_MM = 4.0
#: World positions of voxel axes as BraTS stores them (LPS), as RAS, and tilted by a scanner.
AFFINES = {
    "RAS": np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0]),
    "LPS": np.array([[-EDGE_MM, 0, 0, 9], [0, -EDGE_MM, 0, 5], [0, 0, EDGE_MM, -7], [0, 0, 0, 1]]),
    "oblique": np.array(
        [
            [0.0, 0.1987, 1.9602, -3],
            [-1.0, 0, 0, 12],
            [0.0, 0.9801, -0.3973, 4],
            [0, 0, 0, 1],
        ]
    )
    @ np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0]),
}


class Bright(Method):
    """Whole tumour where the mean of the shown sequences exceeds a z-score of 1; completes by that mean."""

    name = "bright"
    presets = {"paper": Preset((Stage("train", 1, 1, None, "all"),))}
    head = Head("sigmoid", ("wt", "tc", "et"))
    outputs = ("logits", "image")

    def __init__(self, spec=GLIOMA):
        super().__init__(MethodConfig(), spec)
        self.eval()

    def encode(self, image, available, where=None):
        return {"image": image}

    def decode(self, features, available, request=EVERYTHING):
        row = available[..., None, None, None]
        shown = torch.where(row, features["image"], 0.0)
        mean = shown.sum(1, keepdim=True) / row.sum(1, keepdim=True)
        if request.noise is not None:
            mean = mean + 0.5 * request.noise.normal("x", mean.shape[1], mean.shape[2:])
        logits = torch.cat([40 * (mean - 1), 40 * (mean - 1.5), torch.full_like(mean, -40.0)], dim=1)
        return Prediction(logits, mean.expand(-1, 4, -1, -1, -1), torch.ones_like(available))


def native_study(affine, shape=(18, 20, 14), seed=0):
    """Four sequences with a smooth brain and a bright corner-marked lesion, as native arrays (i, j, k)."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    brain = (grid**2).sum(0) < 0.9
    lesion = ((grid - np.array([0.3, -0.2, 0.25])[:, None, None, None]) ** 2).sum(0) < 0.08
    images = {}
    for number, code in enumerate(GLIOMA.modalities):
        values = 100 + 10 * generator.random(shape) + 5 * number + 120 * lesion
        images[code] = nib.Nifti1Image(np.where(brain, values, 0).astype(np.float32), affine)
    return images, lesion & brain


@pytest.fixture
def bright():
    """A method without weights whose answer is known."""
    return Bright()


@pytest.fixture(params=list(AFFINES))
def affine(request):
    """An affine of every kind."""
    return AFFINES[request.param]


def folder_bytes(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def result(bright):
    images, _ = native_study(AFFINES["LPS"])
    return predict_study({"flair": images["flair"]}, bright)


def test_segmentation_lies_on_the_input_grid_where_the_lesion_is(bright, affine):
    images, lesion = native_study(affine)
    result = predict_study({"t2": images["t2"], "flair": images["flair"]}, bright)
    assert result.segmentation.shape == images["flair"].shape
    assert np.array_equal(result.segmentation.affine, images["flair"].affine)
    assert result.segmentation.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(result.segmentation.dataobj) != 0, lesion)
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    assert result.volumes_ml["whole_tumor"] == pytest.approx(lesion.sum() * voxel_ml)


def test_a_model_with_its_own_spacing_answers_on_the_input_grid(bright, affine):
    images, lesion = native_study(affine, shape=(36, 40, 28))
    bright.facts = TrainingFacts(spacing_mm=(2 * EDGE_MM,) * 3, window=(16, 16, 16))
    result = predict_study({"flair": images["flair"]}, bright)
    found = np.asarray(result.segmentation.dataobj) != 0
    assert found.shape == lesion.shape
    assert 2 * (found & lesion).sum() / (found.sum() + lesion.sum()) > 0.85
    centre = [np.argwhere(mask).mean(0) for mask in (found, lesion)]
    np.testing.assert_allclose(*centre, atol=0.3)


def test_windows_have_the_size_of_training(bright, affine, monkeypatch):
    from anymri.inference import predict

    seen = []

    def spy(*arguments, **options):
        seen.append(arguments[3].window)
        return predict_subject(*arguments, **options)

    monkeypatch.setattr(predict, "predict_subject", spy)
    images, _ = native_study(affine)
    bright.facts = TrainingFacts(window=(16, 16, 16))
    predict_study({"flair": images["flair"]}, bright)
    assert seen == [(16, 16, 16)]


def test_completed_sequences_are_z_scores_in_the_brain_only(bright, affine):
    images, _ = native_study(affine)
    result = predict_study({"t1": images["t1"], "flair": images["flair"]}, bright)
    assert list(result.completed) == ["t1c", "t2"]
    made = np.asarray(result.completed["t2"].dataobj)
    given = [np.asarray(images[code].dataobj) for code in ("t1", "flair")]
    brain = given[0] != 0
    expected = np.mean([(image - image[brain].mean()) / image[brain].std() for image in given], axis=0)
    np.testing.assert_allclose(made[brain], expected[brain], rtol=1e-3, atol=3e-3)
    assert (made[~brain] == 0).all()
    assert np.array_equal(result.completed["t2"].affine, images["t1"].affine)


def test_labels_of_brats2021_are_written_as_four():
    class Rim(Bright):
        def decode(self, features, available, request=EVERYTHING):
            prediction = super().decode(features, available, request)
            return prediction._replace(logits=prediction.logits[:, :1].expand(-1, 3, -1, -1, -1))

    images, lesion = native_study(AFFINES["RAS"])
    for labels, value in (("anymri", 3), ("brats2021", 4)):
        result = predict_study({"t1c": images["t1c"]}, Rim(), labels=labels)
        assert set(np.unique(np.asarray(result.segmentation.dataobj))) == {0, value}
        assert result.label_values["et"] == value
        assert result.volumes_ml["enhancing_tumor"] == pytest.approx(lesion.sum() * EDGE_MM**3 / 1000)


@pytest.mark.parametrize("name", ["threshold", "u_hemis", "u_hved", "unet"])
def test_deleted_and_simulated_sequences_agree_bit_for_bit(name):
    """The files of the absent sequences do not exist, against: they exist and are not shown."""
    torch.manual_seed(0)
    method = create(name, preset="tiny").eval()
    images, _ = native_study(AFFINES["LPS"], shape=(20, 14, 16))
    volumes = {code: read_image(image) for code, image in images.items()}
    # Brain boxes must differ between the sequences, or a union of all four would go unnoticed.
    for code, cut in {"t1": 4, "t2": 2, "flair": 3}.items():
        volumes[code].array[:cut] = 0
        volumes[code].array[..., -3 * cut :] = 0

    def run(codes, subsets):
        study = preprocess_study({code: volumes[code] for code in codes})
        return predict_subject(method, study, subsets, WindowSettings(window=(16, 16, 16)))

    simulated = run(GLIOMA.modalities, SUBSETS)
    for subset in SUBSETS:
        deleted = run(subset, [subset])[subset]
        for key in ("probability", "image"):
            one, other = getattr(simulated[subset], key), getattr(deleted, key)
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one.numpy(), other.numpy(), equal_nan=True), (subset, key)
        assert simulated[subset].probability.isfinite().all()


def test_result_folder_holds_what_others_rely_on(result, tmp_path):
    out = write_result(result, tmp_path / "new" / "result")
    names = set(folder_bytes(out))
    assert names == {
        "segmentation.nii.gz", "result.json", "report.html",
        *(f"completed/{code}_synthetic.{end}" for code in ("t1", "t1c", "t2") for end in ("nii.gz", "json")),
    }  # fmt: skip
    facts = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert facts["available"] == ["flair"]
    assert facts["missing"] == ["t1", "t1c", "t2"]
    assert facts["volumes_ml"]["whole_tumor"] == pytest.approx(result.volumes_ml["whole_tumor"], abs=1e-3)
    assert facts["volumes_ml"]["enhancing_tumor"] is None
    assert facts["unknown"].keys() == {"enhancing_tumor"}
    assert "enhancing_tumor" not in facts["trust"]["regions"]
    assert facts["trust"]["regions"]["tumor_core"]["mean_probability"] > 0.5
    assert facts["trust"]["measured"] is None
    assert facts["study"] == "image in memory"
    assert "research use only" in facts["notice"].lower()
    synthetic = json.loads((out / "completed" / "t2_synthetic.json").read_text(encoding="utf-8"))
    assert synthetic["synthetic"] is True
    assert synthetic["made_from"] == ["flair"]
    written = nib.load(out / "segmentation.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(result.segmentation.dataobj))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in page
    assert not list(tmp_path.rglob("*.part"))


def test_the_same_study_gives_the_same_bytes(bright, tmp_path):
    images, _ = native_study(AFFINES["oblique"])
    for name in ("a", "b"):
        write_result(predict_study({"t1": images["t1"]}, bright), tmp_path / name)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_label_scheme_can_be_chosen_when_writing(result, tmp_path):
    out = write_result(result, tmp_path / "r", labels="brats2021")
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["labels"]["et"] == 4
    with pytest.raises(UserError, match="label scheme"):
        write_result(result, tmp_path / "s", labels="brats")


def test_an_earlier_result_is_replaced_only_on_request(result, tmp_path):
    out = write_result(result, tmp_path / "r")
    before = folder_bytes(out)
    (out / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        write_result(result, out)
    assert (out / "note.txt").exists()
    write_result(result, out, overwrite=True)
    assert folder_bytes(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_folder_of_other_things_is_never_replaced(result, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        write_result(result, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(result, tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(UserError, match="a file is where"):
        write_result(result, tmp_path / "r")
    with pytest.raises(UserError, match="a file is where"):
        write_result(result, tmp_path / "r" / "inside")


def test_a_full_disk_leaves_nothing(result, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            write_result(result, tmp_path / "r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_earlier_result(result, tmp_path):
    out = write_result(result, tmp_path / "r")
    before = folder_bytes(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            write_result(result, out, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder_bytes(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_requests_that_make_no_sense_are_refused(bright):
    images, _ = native_study(AFFINES["RAS"])
    with pytest.raises(UserError, match="no sequence was given"):
        predict_study({}, bright)
    with pytest.raises(UserError, match="does not know 'pd'"):
        predict_study({"pd": images["t1"]}, bright)
    with pytest.raises(UserError, match="label scheme"):
        predict_study({"t1": images["t1"]}, bright, labels="fsl")
    with pytest.raises(UserError, match="draw at least 2"):
        predict_study({"t1": images["t1"]}, bright, samples=1)
    bright.subsets = ("t1+t1c",)
    with pytest.raises(UserError, match="not trained for t2"):
        predict_study({"t2": images["t2"]}, bright)


def test_samples_show_how_far_they_agree(bright):
    images, _ = native_study(AFFINES["RAS"])
    trust = predict_study({"flair": images["flair"]}, bright, samples=3).trust
    assert 0 < trust["sample_agreement"]["whole_tumor"] < 1


def test_a_model_can_be_loaded_and_used_by_its_file(bright, tmp_path):
    torch.manual_seed(3)
    method = create("u_hemis", preset="tiny")
    method.save(tmp_path / "model.safetensors", TrainingFacts(spacing_mm=(2 * EDGE_MM,) * 3, window=(16, 16, 16)))
    images, _ = native_study(AFFINES["LPS"], shape=(30, 28, 26))
    for place in (tmp_path, tmp_path / "model.safetensors"):
        model = anymri.load(place)
        result = model.predict({"t2": images["t2"]}, precision="32")
        assert result.provenance["window"] == [16, 16, 16]
        assert result.provenance["grid_mm"] == [2 * EDGE_MM] * 3
        assert len(result.provenance["weights_sha256"]) == 64
    assert load(model) is model
    direct = predict_study({"t2": images["t2"]}, tmp_path, precision="32")
    assert np.array_equal(np.asarray(direct.segmentation.dataobj), np.asarray(result.segmentation.dataobj))
