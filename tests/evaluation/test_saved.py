"""What an evaluation saves is what it scored, on the grid it says, also after an interruption."""

import json

import nibabel as nib
import numpy as np
import pytest

from anymri.data.preprocess import preprocess
from anymri.evaluation import evaluate
from anymri.evaluation.metrics import dice
from anymri.types import GLIOMA, UserError

OPTIONS = {"precision": "32", "hd95": False, "pictures": False, "progress": False}


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def native(three, tmp_path_factory):
    """The same files at their own spacing."""
    folder = tmp_path_factory.mktemp("native") / "cache"
    preprocess(three.cache.folder.parent / "subjects.csv", folder, spacing_mm=None, progress=False)
    return folder


def test_saved_label_maps_have_the_dice_of_the_table(three, mean_method, tmp_path):
    table = evaluate(mean_method, three.cache, tmp_path / "r.parquet", save_predictions=tmp_path / "kept", **OPTIONS)
    scores = table[table.metric == "dice"].astype({"subject": str, "subset": str, "target": str})
    assert len(scores) == 3 * (15 + 15 + 3)
    for row in scores.itertuples():
        image = nib.load(tmp_path / "kept" / row.subject / row.subset / "segmentation.nii.gz")
        entry = three.cache.entry(row.subject, GLIOMA.parse_subset(row.subset))
        np.testing.assert_allclose(image.affine, entry.grid.affine)
        from anymri.data.geometry import from_native

        found = from_native(np.asarray(image.dataobj), image.affine)
        values = GLIOMA.region_values(row.target)
        assert dice(np.isin(found, values), np.isin(entry.label, values)) == pytest.approx(row.value)
    card = json.loads((tmp_path / "kept" / "predictions.json").read_text())
    assert card["labels"] == GLIOMA.labels
    assert "cache" in card["grid"]


def test_completed_sequences_are_those_not_given(three, mean_method, tmp_path):
    evaluate(mean_method, three.cache, tmp_path / "r.parquet", save_predictions=tmp_path / "kept", **OPTIONS)
    folder = tmp_path / "kept" / three.names[0] / "t1c+flair"
    assert {path.name for path in (folder / "completed").iterdir()} == {"t1_synthetic.nii.gz", "t2_synthetic.nii.gz"}
    assert not (folder.parent / "t1+t1c+t2+flair" / "completed").exists()
    image = np.asarray(nib.load(folder / "completed" / "t1_synthetic.nii.gz").dataobj)
    given = np.asarray(three.cache.entry(three.names[0], ("t1c", "flair")).image[[1, 3]])
    assert (image != 0).sum() <= (given != 0).any(0).sum()
    assert np.isfinite(image).all()
    assert image.std() > 0.1


def test_with_a_reference_everything_lies_on_the_grid_of_the_files(three, native, mean_method, tmp_path):
    subject = three.names[0]
    evaluate(
        mean_method, three.cache, tmp_path / "r.parquet", reference=native, subjects=[subject],
        subsets=["t1c+flair"], save_predictions=tmp_path / "kept", **OPTIONS,
    )  # fmt: skip
    (file,) = (three.cache.folder.parent / "files").rglob(f"{subject}*t1c.nii.gz")
    stored = nib.load(file)
    for path in (tmp_path / "kept" / subject / "t1c+flair").rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == stored.shape
        np.testing.assert_allclose(image.affine, stored.affine, atol=1e-5)


def test_an_interrupted_evaluation_goes_on_to_the_same_files(three, mean_method, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    evaluate(mean_method, three.cache, tmp_path / "a.parquet", save_predictions=whole, **OPTIONS)

    def stop(entry, subset, prediction):
        if entry.subject_id == three.names[1] and len(subset) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(mean_method, three.cache, tmp_path / "b.parquet", save_predictions=broken, watch=stop, **OPTIONS)
    assert 0 < len(files_of(broken)) < len(files_of(whole))
    evaluate(mean_method, three.cache, tmp_path / "b.parquet", save_predictions=broken, **OPTIONS)
    assert files_of(broken) == files_of(whole)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_predictions_asked_for_later_are_made_too(three, mean_method, tmp_path):
    def stop(entry, subset, prediction):
        if entry.subject_id == three.names[2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(mean_method, three.cache, tmp_path / "r.parquet", watch=stop, **OPTIONS)
    evaluate(mean_method, three.cache, tmp_path / "r.parquet", save_predictions=tmp_path / "kept", **OPTIONS)
    for subject, count in zip(three.names, (15, 15, 3), strict=True):
        assert len(list((tmp_path / "kept" / subject).iterdir())) == count


def test_what_belongs_to_another_question_is_not_overwritten(three, mean_method, tmp_path):
    kept, options = tmp_path / "kept", {**OPTIONS, "subsets": ["flair"]}
    evaluate(mean_method, three.cache, tmp_path / "r.parquet", save_predictions=kept, **options)
    before = files_of(kept)
    with pytest.raises(UserError, match="another model or question"):
        evaluate(mean_method, three.cache, tmp_path / "r.parquet", save_predictions=kept, overlap=0.25, **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("long")
    with pytest.raises(UserError, match="other files"):
        evaluate(mean_method, three.cache, tmp_path / "r.parquet", save_predictions=tmp_path / "mine", **options)
    assert files_of(kept) == before
