"""One study and one data set on the way to the cache."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymri.data.cache import Cache, study_facts
from anymri.data.index import write_subjects
from anymri.data.nifti import Geometry, Volume
from anymri.data.preprocess import other_anchors, parse_spacing, preprocess, preprocess_study
from anymri.files import RefusedWrite
from anymri.types import GLIOMA, STATISTICS, DataSpec, Subject, UserError

SHAPE = (18, 22, 20)
GEOMETRY = Geometry(np.diag([-1.0, -1, 1, 1]), SHAPE[::-1])


def brain(margin):
    mask = np.zeros(SHAPE, bool)
    mask[margin : SHAPE[0] - margin, 3:-3, 4:-4] = True
    return mask


def images(codes=GLIOMA.modalities):
    """Each modality with a brain box, scale and noise of its own."""
    volumes = {}
    for index, code in enumerate(GLIOMA.modalities):
        random = np.random.default_rng(index)
        array = np.where(brain(2 + index), random.normal(100 * (index + 1), 10, SHAPE), 0).astype(np.float32)
        volumes[code] = Volume(array, GEOMETRY, f"{code}.nii.gz")
    return {code: volumes[code] for code in codes}


def label(*regions):
    array = np.zeros(SHAPE, np.int16)
    for value, place in regions:
        array[place : place + 3, 8:12, 8:12] = value
    return Volume(array, GEOMETRY, "seg.nii.gz")


# ----------------------------------------------------------------------------------------------------- one study


def test_each_modality_is_normalised_by_its_own_brain():
    study = preprocess_study(images())
    assert study.image.dtype == np.float32
    assert study.image.shape == (4, *SHAPE)
    for index, (code, volume) in enumerate(images().items()):
        own = volume.array[volume.array != 0]
        inside = study.image[index][brain(2 + index)]
        assert (study.image[index] != 0).sum() == own.size, code
        np.testing.assert_allclose(inside, (own - own.mean()) / own.std(), atol=3e-3)
        expected = [own.mean(), own.std(), own.min(), own.max(), *np.percentile(own, [0.1, 1, 99, 99.9])]
        np.testing.assert_allclose(study.statistics[index], expected, rtol=1e-5)
        assert study.boxes[index].tolist() == [[2 + index, 3, 4], [SHAPE[0] - 2 - index, 19, 16]]
    np.testing.assert_array_equal(study.image.astype(np.float16).astype(np.float32), study.image)
    assert study.geometry is study.grid


@pytest.mark.parametrize("spacing", [None, 2.0, (1.5, 2, 1)])
@pytest.mark.parametrize("subset", GLIOMA.subsets(), ids="+".join)
def test_no_modality_influences_another(spacing, subset):
    """The other channels are bitwise the same when a sequence is deleted."""
    full, part = preprocess_study(images(), spacing), preprocess_study(images(subset), spacing)
    assert part.present.tolist() == [code in subset for code in GLIOMA.modalities]
    np.testing.assert_array_equal(part.image[part.present], full.image[part.present])
    np.testing.assert_array_equal(part.statistics[part.present], full.statistics[part.present])
    np.testing.assert_array_equal(part.boxes[part.present], full.boxes[part.present])
    assert np.isnan(part.image[~part.present]).all()
    assert np.isnan(part.statistics[~part.present]).all()
    assert (part.boxes[~part.present] == 0).all()
    assert list(study_facts(part, GLIOMA)["statistics"]) == list(subset)


def test_poison_in_one_modality_stays_there():
    clean, poisoned = images(), images()
    array = poisoned["t1c"].array.copy()
    array[5:9] = np.nan
    array[9, 5, 5] = 1e30
    poisoned["t1c"] = poisoned["t1c"]._replace(array=array)
    one, other = preprocess_study(clean, 2), preprocess_study(poisoned, 2)
    np.testing.assert_array_equal(one.image[[0, 2, 3]], other.image[[0, 2, 3]])
    assert not np.array_equal(one.image[1], other.image[1])
    assert np.isfinite(other.image[1]).all()


def test_brain_voxels_are_never_zero_and_never_beyond_float16():
    volume = images(("t1",))["t1"]
    array = np.where(volume.array != 0, np.float32(100), np.float32(0))
    array[5:8, 5:15, 5:15] = 90
    array[8:11, 5:15, 5:15] = 110  # mean exactly 100
    array[11, 11, 11] = 1e8
    array[12, 12, 12] = 200 - 1e8
    study = preprocess_study({"t1": volume._replace(array=array)})
    assert ((study.image[0] != 0) == (array != 0)).all()
    assert np.abs(study.image[0]).max() == 20


def test_spacing_is_reached_and_recorded():
    study = preprocess_study(images(), 2, label((1, 6), (2, 9)))
    assert study.image.shape == (4, 10, 12, 10)  # a voxel begins in the middle of the brain, at 9, 11 and 10
    assert study.label.shape == (10, 12, 10)
    assert study.grid.spacing_mm == (2, 2, 2)
    facts = study_facts(study, GLIOMA)
    assert facts["spacing_mm"] == [2, 2, 2]
    assert facts["native_shape"] == list(SHAPE[::-1])
    assert facts["native_orientation"] == "LPS"
    for index in range(4):  # the box is that of the resampled brain
        filled = np.argwhere(study.image[index] != 0)
        np.testing.assert_array_equal(study.boxes[index], [filled.min(0), filled.max(0) + 1])
    assert list(facts["statistics"]["t1"]) == list(STATISTICS)
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize("value", [3, 4])
def test_both_spellings_of_enhancing_tumour_become_three(value):
    study = preprocess_study(images(), label=label((1, 4), (2, 8), (value, 12)))
    assert study.label.dtype == np.uint8
    assert set(np.unique(study.label)) == {0, 1, 2, 3}
    assert (study.label[12:15, 8:12, 8:12] == 3).all()


def test_labels_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match=r"seg.nii.gz: holds the unknown label 7"):
        preprocess_study(images(), label=label((7, 4)))
    with pytest.raises(UserError, match=r"seg.nii.gz: holds both 3 and 4"):
        preprocess_study(images(), label=label((3, 4), (4, 8)))
    lesions = DataSpec(labels={"lesion": 1}, regions={"lesion": ("lesion",)})
    with pytest.raises(UserError, match="unknown label 4"):
        preprocess_study(images(), label=label((4, 4)), spec=lesions)
    four = DataSpec(labels={"et": 3, "cavity": 4}, regions={"enhancing_tumor": ("et",)})
    assert set(np.unique(preprocess_study(images(), label=label((4, 4)), spec=four).label)) == {0, 4}


def test_unusable_studies_are_refused():
    whole_head = images(("t1",))["t1"]
    whole_head = whole_head._replace(array=whole_head.array + 1)
    flat = images(("t1",))["t1"]
    flat = flat._replace(array=(flat.array != 0).astype(np.float32))
    cases = {
        "skull-stripped": {"t1": whole_head},
        "constant inside": {"t1": flat},
        "no sequence": {},
        "unknown modality 'pd'": {"pd": flat},
    }
    for word, volumes in cases.items():
        with pytest.raises(UserError, match=word):
            preprocess_study(volumes)
    for spacing in (0, -1, (1, 2), float("nan"), "two"):
        with pytest.raises(UserError, match="not one or three numbers"):
            parse_spacing(spacing)
    with pytest.raises(UserError, match="too many voxels"):
        preprocess_study(images(), 0.02)


# ---------------------------------------------------------------------------------------------------- a data set


@pytest.fixture
def subjects(tmp_path):
    """Three studies on disk: complete, without T1c and label, and one with a broken file."""
    found = []
    for number, codes in enumerate((GLIOMA.modalities, ("t1", "t2", "flair"), ("t1", "t2"))):
        folder = tmp_path / "data" / f"s{number}"
        folder.mkdir(parents=True)
        paths = {}
        for code, volume in images(codes).items():
            paths[code] = folder / f"{code}.nii.gz"
            native = volume.array.transpose(2, 1, 0)[::-1, ::-1]
            nib.Nifti1Image(np.rint(native).astype(np.int16), GEOMETRY.affine).to_filename(paths[code])
        found.append(Subject(f"s{number}", paths))
    seg = tmp_path / "data" / "s0" / "seg.nii.gz"
    native = label((1, 6), (4, 9)).array.transpose(2, 1, 0)[::-1, ::-1]
    nib.Nifti1Image(native, GEOMETRY.affine).to_filename(seg)
    found[0] = Subject("s0", found[0].images, seg)
    found[2].images["t2"].write_text("broken")
    return found


def test_one_broken_subject_does_not_stop_the_others(tmp_path, subjects):
    report = preprocess(subjects, tmp_path / "cache", 2, progress=False)
    assert report.done == ["s0", "s1"]
    assert list(report.failed) == ["s2"]
    assert "t2.nii.gz: is not a NIfTI file" in report.failed["s2"]
    cache = Cache(report)
    assert cache.subject_ids == ("s0", "s1")
    assert not list((tmp_path / "cache").glob("s2*"))
    assert set(np.unique(cache.entry("s0").label)) == {0, 1, 3}
    assert cache.entry("s1").label is None
    assert cache.entry("s1").present.tolist() == [True, False, True, True]


def test_site_and_class_follow_the_table_without_touching_voxels(tmp_path, subjects):
    told = [replace(subjects[0], site="Bern", class_label="high"), subjects[1]]
    cache = Cache(preprocess(told, tmp_path / "cache", 2, progress=False))
    assert (cache.entry("s0").site, cache.entry("s0").class_label, cache.sites) == ("Bern", "high", ("Bern",))
    written = {path.name: path.stat().st_mtime_ns for path in cache.folder.glob("*.npy")}
    mended = [replace(told[0], class_label="low"), told[1]]
    again = preprocess(mended, tmp_path / "cache", 2, progress=False)
    assert (again.done, again.skipped) == (["s0"], ["s1"])
    assert Cache(again).entry("s0").class_label == "low"
    assert preprocess(mended, tmp_path / "cache", 2, progress=False).done == []
    assert {path.name: path.stat().st_mtime_ns for path in cache.folder.glob("*.npy")} == written


def test_a_second_run_does_only_what_changed(tmp_path, subjects):
    good = subjects[:2]
    first = preprocess(good, tmp_path / "cache", 2, progress=False)
    fingerprint = Cache(first).fingerprint()
    again = preprocess(good, tmp_path / "cache", 2, progress=False)
    assert (again.done, again.skipped) == ([], ["s0", "s1"])
    os.utime(good[0].images["t1"], ns=(1, 1))
    assert preprocess(good, tmp_path / "cache", 2, progress=False).done == []  # content counts, not time
    path = good[0].images["t1"]
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[:4] + b"xxxx" + content[8:])  # gzip's time stamp: other bytes, same voxels, size and time
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert preprocess(good, tmp_path / "cache", 2, progress=False).done == ["s0"]
    (tmp_path / "cache" / "s1.npy").write_bytes(b"cut off")
    assert preprocess(good, tmp_path / "cache", 2, progress=False).done == ["s1"]
    (tmp_path / "cache" / "s0.json").unlink()
    assert preprocess(good, tmp_path / "cache", 2, progress=False).done == ["s0"]
    assert Cache(first).fingerprint() == fingerprint
    without_label = Subject("s0", good[0].images)
    assert preprocess([without_label], tmp_path / "cache", 2, progress=False).done == ["s0"]
    assert Cache(first).entry("s0").label is None
    assert not (tmp_path / "cache" / "s0.label.npy").exists()
    with pytest.raises(UserError, match="another spacing"):
        preprocess(good, tmp_path / "cache", 1, progress=False)


def test_workers_write_the_same_bytes(tmp_path, subjects):
    serial = preprocess(subjects, tmp_path / "one", 2, progress=False)
    parallel = preprocess(subjects, tmp_path / "two", 2, workers=2, progress=False)
    assert (parallel.done, parallel.failed) == (serial.done, serial.failed)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


KILLED = """
import sys
from anymri.data.preprocess import preprocess
if __name__ == "__main__":
    preprocess(sys.argv[1], sys.argv[2], 0.6, workers=2, progress=False)
"""


@pytest.mark.slow
def test_a_build_that_was_killed_ends_in_the_same_bytes(tmp_path):
    subjects = []
    for number in range(8):
        path = tmp_path / f"{number}.nii"
        array = np.random.default_rng(number).integers(1, 1000, (60, 60, 60)).astype(np.int16)
        array[:, :, :30] = 0
        nib.Nifti1Image(array, np.eye(4)).to_filename(path)
        subjects.append(Subject(f"s{number}", {"t1": path}))
    write_subjects(tmp_path / "subjects.csv", subjects)
    (tmp_path / "build.py").write_text(KILLED, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "build.py"), str(tmp_path / "subjects.csv")]
    with subprocess.Popen([*command, str(tmp_path / "killed")], start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "killed").glob("s*.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must notice
    done = len(list((tmp_path / "killed").glob("s*.json")))
    assert 0 < done < len(subjects)
    while _session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _session(process.pid)
    (tmp_path / "killed" / ".s9.npy.1.part").write_bytes(b"half")
    for name in ("killed", "whole"):
        preprocess(tmp_path / "subjects.csv", tmp_path / name, 0.6, progress=False)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert whole == {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    assert len(whole) == 2 * len(subjects) + 1


def _session(number):
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_the_cache_of_a_study_without_a_sequence_equals_the_full_one_elsewhere(tmp_path, subjects):
    full = Cache(preprocess(subjects[:1], tmp_path / "full", 2, progress=False)).entry("s0")
    fewer = Subject("s0", {code: path for code, path in subjects[0].images.items() if code != "t1c"})
    part = Cache(preprocess([fewer], tmp_path / "part", 2, progress=False)).entry("s0")
    np.testing.assert_array_equal(part.image[[0, 2, 3]], full.image[[0, 2, 3]])
    assert np.isnan(part.image[1]).all()


def test_a_full_disk_ends_the_run_and_is_no_fault_of_the_subjects(tmp_path, subjects, monkeypatch):
    def refuse(self, *_):
        raise RefusedWrite(self.folder / "s0.npy", "No space left on device")

    monkeypatch.setattr(Cache, "write_entry", refuse)
    report = preprocess(subjects[:2], tmp_path / "cache", progress=False)
    assert list(report.failed) == ["s0"]
    assert report.refused == report.failed["s0"]
    assert "s0.npy: cannot be written (No space left on device); free some space" in report.refused


def odd_images(codes=GLIOMA.modalities):
    """T1c's brain lies further up, T2 is noise to the corners of the array."""
    volumes = images()
    volumes["t1c"] = volumes["t1c"]._replace(array=np.roll(volumes["t1c"].array, 2, axis=0))
    noise = np.random.default_rng(9).uniform(1, 9, SHAPE).astype(np.float32)
    noise[:, :2] = 0
    volumes["t2"] = volumes["t2"]._replace(array=noise)
    return {code: volumes[code] for code in codes}


def store_odd(folder):
    cache, volumes, seg = Cache.create(folder, GLIOMA, (1.9, 2, 1)), odd_images(), label((1, 6), (2, 9))
    study = preprocess_study(volumes, (1.9, 2, 1), seg)
    sides = [preprocess_study(volumes, (1.9, 2, 1), seg, anchor=anchor) for anchor in other_anchors(study)]
    assert len(sides) >= 2, "without it the test could not fail"
    cache.write_entry("s", study, None, sides)
    return cache


def assert_same_where_shown(entry, alone):
    assert entry.lattice == alone.lattice
    np.testing.assert_array_equal(np.asarray(entry.image)[alone.present], alone.image[alone.present])
    np.testing.assert_array_equal(entry.boxes[alone.present], alone.boxes[alone.present])
    np.testing.assert_array_equal(entry.middles[alone.present], alone.middles[alone.present])
    np.testing.assert_array_equal(entry.label, alone.label)


def test_every_subset_is_read_from_the_grid_that_it_alone_places(tmp_path):
    cache = store_odd(tmp_path / "cache")
    for subset in GLIOMA.subsets():
        alone = preprocess_study(odd_images(subset), (1.9, 2, 1), label((1, 6), (2, 9)))
        assert_same_where_shown(cache.entry("s", subset), alone)
        hidden = {"s": [code for code in GLIOMA.modalities if code not in subset]}
        assert_same_where_shown(Cache(cache.folder, hidden).entry("s"), alone)
    shared = cache.entries("s", GLIOMA.subsets())
    assert sorted(subset for _, subsets in shared for subset in subsets) == sorted(GLIOMA.subsets())
    assert len(shared) == 1 + len(cache.sides())


def test_a_further_grid_is_checked_and_removed_with_its_subject(tmp_path):
    from anymri.data.cache_check import check_cache, clean_cache

    cache = store_odd(tmp_path / "cache")
    assert (check_cache(cache.folder).subjects, check_cache(cache.folder).leftovers) == (1, ())
    path = cache.sides()[0].folder / "s.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"sides.*changed or damaged"):
        Cache(cache.folder).verify("s")
    (cache.folder / "s.json").unlink()
    assert path in check_cache(cache.folder).leftovers
    clean_cache(cache.folder)
    assert [path.name for path in cache.folder.rglob("*") if path.is_file()] == ["dataset.json"]


def test_a_full_disk_leaves_no_subject_behind(tmp_path, subjects):
    (tmp_path / "cache").mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        report = preprocess(subjects[:1], tmp_path / "cache", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "free some space" in report.failed["s0"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["dataset.json"]


def test_wrong_lists_and_folders_are_refused(tmp_path, subjects):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is where the folder should be"):
        preprocess(subjects, tmp_path / "file", progress=False)
    with pytest.raises(UserError, match="not empty and not a cache"):
        preprocess(subjects, tmp_path / "data", progress=False)
    with pytest.raises(UserError, match="lists no subject"):
        preprocess([], tmp_path / "cache", progress=False)
    with pytest.raises(UserError, match="subject s0 twice"):
        preprocess([subjects[0]] * 2, tmp_path / "cache", progress=False)
    odd = [Subject(name, subjects[0].images) for name in ("../s", "dataset", "x.label")]
    assert list(preprocess(odd, tmp_path / "cache", progress=False).failed) == sorted(s.subject_id for s in odd)
    gone = Subject("gone", {"t1": tmp_path / "gone.nii.gz"})
    assert "no such file" in preprocess([gone], tmp_path / "cache", progress=False).failed["gone"]


def test_from_the_table_of_subjects(tmp_path, subjects):
    index = pytest.importorskip("anymri.data.index")
    index.write_subjects(tmp_path / "subjects.csv", subjects)
    report = preprocess(tmp_path / "subjects.csv", tmp_path / "cache", 2, progress=False)
    assert (report.done, list(report.failed)) == (["s0", "s1"], ["s2"])


def test_a_head_does_not_get_into_a_cache(tmp_path):
    """Skull and scalp around a brain, the air exactly 0."""
    place = np.stack(np.meshgrid(*[3.0 * (np.arange(64) - 32) for _ in range(3)], indexing="ij"))
    radius = np.sqrt((place**2).sum(0))
    values = np.where(radius < 60, 500.0, np.where(radius < 70, 20.0, np.where(radius < 78, 900.0, 0.0)))
    values += (radius < 78) * np.random.default_rng(0).uniform(0, 40, radius.shape)
    for name, array in {"head": values, "brain": np.where(radius < 60, values, 0)}.items():
        image = nib.Nifti1Image(array.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
        image.to_filename(tmp_path / f"{name}.nii.gz")
    subjects = [Subject(name, {"t1": tmp_path / f"{name}.nii.gz"}) for name in ("head", "brain")]
    report = preprocess(subjects, tmp_path / "cache", progress=False)
    assert report.done == ["brain"]
    assert "head.nii.gz: shows a whole head" in report.failed["head"]
    assert "--raw" in report.failed["head"]
