"""Data sets on disk: layouts, workers, missing sequences, frozen recipes."""

import json
from pathlib import Path

import numpy as np
import pytest

from anymri.data.datasets import get_dataset
from anymri.data.nifti import read_image
from anymri.data.specification import dataset_spec
from anymri.errors import UserError
from anymri.phantom import (
    PhantomSettings,
    checksum,
    generate,
    generate_abdomens,
    generate_recipe,
    make_subject,
    read_recipe,
    verify_recipe,
)
from anymri.phantom.layouts import LAYOUTS, find_layout
from anymri.phantom.settings import SEQUENCES


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


CALL = ("subjects", "seed", "layout", "missing", "start", "workers")


def make(folder: Path, **changes) -> Path:
    call = {name: changes.pop(name) for name in tuple(changes) if name in CALL}
    settings = PhantomSettings(**({"spacing_mm": 5.0} | changes))
    return generate(folder, **({"subjects": 2, "seed": 9, "settings": settings, "progress": False} | call))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return make(tmp_path_factory.mktemp("phantom") / "two")


def test_files_hold_what_is_in_memory(two):
    subjects = get_dataset("brats2023").index(two)
    assert [subject.subject_id for subject in subjects] == ["BraTS-GLI-00000-000", "BraTS-GLI-00001-000"]
    made = make_subject(9, 1, PhantomSettings(spacing_mm=5.0))
    for code, path in subjects[1].images.items():
        volume = read_image(path)
        np.testing.assert_array_equal(volume.array, made.images[code])
        assert volume.geometry.spacing_mm == pytest.approx((5.0, 5.0, 5.0))
    np.testing.assert_array_equal(read_image(subjects[1].label, "label").array, made.label)


def test_workers_do_not_change_a_byte(two, tmp_path):
    assert contents(make(tmp_path / "again", workers=2)) == contents(two)


def test_start_continues_a_data_set(two, tmp_path):
    second = contents(make(tmp_path / "second", subjects=1, start=1))
    assert all(contents(two)[name] == data for name, data in second.items())
    assert len(second) == 6


def test_provenance_names_what_was_drawn(two):
    record = json.loads((two / "provenance" / "BraTS-GLI-00000-000.json").read_text(encoding="utf-8"))
    assert record["seed"] == 9
    assert {"anatomy", "pathology", "contrast", "artifacts", "settings", "missing", "sha256"} <= set(record)
    assert record["sha256"] == checksum(make_subject(9, 0, PhantomSettings(spacing_mm=5.0)))


def test_brats2021_stores_enhancing_tumour_as_4(tmp_path):
    folder = make(tmp_path / "old", layout="brats2021", subjects=1, seed=3)
    subject = get_dataset("brats2021").index(folder)[0]
    values = set(np.unique(read_image(subject.label, "label").array).astype(int))
    assert values <= {0, 1, 2, 4}


def test_a_folder_takes_every_pathology_and_says_what_its_labels_mean(tmp_path):
    folder = make(tmp_path / "strokes", layout="folder", subjects=2, pathology="stroke")
    subjects = get_dataset("folder").index(folder)
    assert [subject.subject_id for subject in subjects] == ["phantom-00000", "phantom-00001"]
    spec = dataset_spec(folder, "folder", subjects)
    assert spec.labels == {"penumbra": 1, "core": 2}
    assert spec.regions["penumbra"] == ("penumbra", "core")
    label = read_image(subjects[0].label, "label").array
    assert {1, 2} <= set(np.unique(label))
    assert (folder / "provenance" / "phantom-00001.json").is_file()


def test_missing_sequences_are_dropped_but_never_all(tmp_path):
    folder = make(tmp_path / "gaps", subjects=3, missing={"t1": 1.0, "t1c": 1.0, "t2": 1.0, "flair": 0.0})
    assert [tuple(subject.images) for subject in get_dataset("brats2023").index(folder)] == [("flair",)] * 3
    with pytest.raises(UserError, match="always be missing"):
        make(tmp_path / "none", missing=dict.fromkeys(("t1", "t1c", "t2", "flair"), 1.0))


PATHOLOGY_OF = {
    "isles2015_siss": "stroke_subacute",
    "isles2015_spes": "stroke",
    "isles2015": "stroke",
    "msgc2008": "multiple_sclerosis",
    "msseg2016": "multiple_sclerosis",
    "wmh2017": "wmh",
    "bids": "wmh",
    "folder": "metastases",
    **dict.fromkeys(("adni", "ixi"), "none"),
}


@pytest.mark.parametrize("layout", [*LAYOUTS, "isles2015"])
def test_every_layout_is_read_as_it_was_written(tmp_path, layout):
    pathology = PATHOLOGY_OF.get(layout, "glioma")
    folder = make(tmp_path / "out", layout=layout, pathology=pathology, subjects=1, start=1, spacing_mm=8.0)
    row = find_layout(layout, pathology)
    (subject,) = get_dataset(row.dataset).index(folder)
    assert subject.subject_id == row.subject_name(1)
    made = make_subject(9, 1, PhantomSettings(spacing_mm=8.0, pathology=pathology, modalities=row.modalities))
    assert set(subject.images) == set(row.modalities)
    for code, path in subject.images.items():
        np.testing.assert_array_equal(read_image(path).array, made.images[code])
    expected = row.label(made.label, pathology)
    assert (subject.label is None) == (expected is None)
    if expected is not None:
        found = read_image(subject.label, "label").array
        if layout in ("brats2017", "brats2018", "brats2019", "brats2020", "brats2021"):  # et is 4 there
            found = np.where(found == 4, 3, found)
        np.testing.assert_array_equal(found, expected)
        assert expected.any()


def test_parts_of_isles_follow_the_pathology():
    assert find_layout("isles2015", "stroke").dataset == "isles2015_spes"
    assert find_layout("isles2015", "stroke_subacute").dataset == "isles2015_siss"
    label = np.array([0, 1, 2], np.uint8)
    np.testing.assert_array_equal(find_layout("isles2015_siss", "stroke").label(label, "stroke"), [0, 0, 1])


def test_a_full_disk_leaves_nothing_of_the_subject(tmp_path, monkeypatch):
    from anymri.data.datasets import layout as layout_module

    written = []

    def write_until_full(path, array, geometry):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(b"part")

    monkeypatch.setattr(layout_module, "write_array", write_until_full)
    with pytest.raises(
        UserError, match=r"cannot write BraTS-GLI-00000-000 \(No space left on device\); free some space"
    ):
        make(tmp_path / "out", spacing_mm=8.0)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["provenance"]


@pytest.mark.slow
def test_workers_do_not_change_a_byte_of_a_stroke_in_all_sequences(tmp_path):
    settings = {"layout": "folder", "pathology": "stroke", "modalities": SEQUENCES, "spacing_mm": 8.0, "subjects": 4}
    one = contents(make(tmp_path / "one", workers=1, **settings))
    assert contents(make(tmp_path / "four", workers=4, **settings)) == one
    assert len(one) == 4 * (len(SEQUENCES) + 2) + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": 0}, "subjects is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"layout": "brats"}, "unknown layout 'brats'"),
        ({"pathology": "flu"}, "unknown pathology"),
        ({"pathology": "wmh"}, "brats2023 has no labels for wmh; choose bids or folder or wmh2017"),
        ({"pathology": "glioma_resected"}, "has no labels for glioma_resected; choose bids or brats2024"),
        ({"spacing_mm": 0}, "spacing 0 mm"),
        ({"artifacts": {"blur": 0.5}}, "unknown artifact"),
        ({"artifacts": {"motion": 3}}, "strength of motion is 3"),
        ({"artifact_rate": 2}, "artifact_rate is 2"),
        ({"missing": {"t9": 0.5}}, "missing names 't9'"),
        ({"missing": {"t1": 2}}, "missing rate of t1 is 2"),
        ({"start": 99_999}, "beyond 99999"),
        ({"layout": "wmh2017", "pathology": "wmh", "modalities": ("t1", "dwi")}, "wmh2017 has no place for dwi"),
        ({"layout": "bids", "modalities": ("t1", "tmax")}, "bids has no place for tmax"),
        ({"layout": "msd_brain", "missing": {"t2": 0.5}}, "cannot be written without t2"),
        ({"layout": "isles2015"}, "isles2015 has no labels for glioma"),
        ({"layout": "ixi", "pathology": "none", "missing": {"flair": 0.5}}, "sequences of this study: t1, t2, pd"),
        ({"protocols": {"t1:tr_ms": -1}}, "tr_ms is -1"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out: a file is where the folder should be"):
        make(tmp_path / "out")


def test_phantom40_is_as_it_was_frozen():
    assert verify_recipe("phantom40", indices=[0, 41]) == 2


def test_phantom40_has_40_training_and_10_test_subjects():
    recipe = read_recipe("phantom40")
    parts = recipe.subject_ids("train"), recipe.subject_ids("test")
    assert [len(part) for part in parts] == [40, 10]
    assert [*parts[0], *parts[1]] == list(recipe.sha256)


def small_recipe(folder: Path, digest: str) -> Path:
    path = folder / "small.yaml"
    path.write_text(
        "name: small\nseed: 9\nsettings: {spacing_mm: 5.0}\ntrain: 1\ntest: 0\nlayout: brats2023\n"
        f"sha256: {{BraTS-GLI-00000-000: '{digest}'}}\n"  # a digest of digits alone would be a number
    )
    return path


def test_a_recipe_is_written_and_checked(two, tmp_path):
    good = checksum(make_subject(9, 0, PhantomSettings(spacing_mm=5.0)))
    folder = generate_recipe(small_recipe(tmp_path, good), tmp_path / "out", progress=False)
    written = contents(folder)
    split = json.loads(written.pop("split.json"))
    assert split["folds"] == [{"train": ["BraTS-GLI-00000-000"], "validation": [], "test": []}]
    assert all(contents(two)[name] == data for name, data in written.items())
    with pytest.raises(UserError, match="checksum differs"):
        verify_recipe(small_recipe(tmp_path, "0" * 64))


def test_what_is_no_recipe_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such phantom recipe"):
        read_recipe("phantom41")
    (tmp_path / "other.yaml").write_text("name: other\n")
    with pytest.raises(UserError, match="not a phantom recipe"):
        read_recipe(tmp_path / "other.yaml")
    for further in ("sed: 1", "base: {x: 1}"):
        path = small_recipe(tmp_path, "0" * 64)
        path.write_text(f"{path.read_text()}{further}\n")
        with pytest.raises(UserError, match=further[: further.index(":")]):
            read_recipe(path)


def test_phantoms_of_other_settings_are_not_mixed(tmp_path, monkeypatch):
    made = make(tmp_path / "made", subjects=1, spacing_mm=8.0)
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    monkeypatch.setattr("anymri.phantom.dataset.make_subject", lambda *_: pytest.fail("something was made"))
    others = ({"seed": 10}, {"spacing_mm": 4.0}, {"layout": "bids"}, {"missing": {"t1": 1.0}}, {"pathology": "none"})
    for other in others:
        with pytest.raises(UserError, match=r"made: holds phantoms of other settings \(BraTS-GLI-00000-000, seed 9\)"):
            make(made, **{"subjects": 1, "spacing_mm": 8.0} | other)
    with pytest.raises(UserError, match="holds phantoms of other settings"):
        generate_abdomens(made, 1, 9, 8.0, progress=False)
    monkeypatch.undo()
    make(made, subjects=1, spacing_mm=8.0)
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    (made / "provenance" / "BraTS-GLI-00000-000.json").write_text("{")
    with pytest.raises(UserError, match="is not the record of a phantom"):
        make(made, subjects=1, spacing_mm=8.0)
