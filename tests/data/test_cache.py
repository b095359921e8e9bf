"""The cache on disk: round trip, damage, fingerprint."""

import copy
import hashlib
import json
import shutil

import numpy as np
import pytest

from anymri.data.cache import Cache
from anymri.data.cache_check import check_cache, clean_cache
from anymri.data.loading import PatchLoader, volume_batch
from anymri.data.nifti import Geometry, Volume
from anymri.data.preprocess import preprocess_study
from anymri.data.tables import ArrayKind, Tables
from anymri.files import replace_file
from anymri.records import seal, write_record
from anymri.types import GLIOMA, DataSpec, UserError

SHAPE = (16, 14, 12)


def make_study(seed=0, codes=("t1", "flair"), spacing=None, labelled=True):
    random = np.random.default_rng(seed)
    geometry = Geometry(np.array([[-1, 0, 0, 5], [0, -1, 0, 6], [0, 0, 1, 7.0], [0, 0, 0, 1]]), SHAPE[::-1])
    volumes = {}
    for code in codes:
        array = np.zeros(SHAPE, np.float32)
        array[3:-2, 2:-3, 4:-2] = random.uniform(50, 100, array[3:-2, 2:-3, 4:-2].shape)
        volumes[code] = Volume(array, geometry, code)
    label = np.zeros(SHAPE, np.int16)
    label[6:10, 6:9, 6:9] = 2
    return preprocess_study(volumes, spacing, Volume(label, geometry, "seg") if labelled else None)


@pytest.fixture
def cache(tmp_path):
    cache = Cache.create(tmp_path / "cache", GLIOMA, None)
    cache.write_entry("b", make_study(1))
    cache.write_entry("a", make_study(2, ("t1c",), labelled=False))
    return cache


def test_what_is_written_is_read(cache):
    assert cache.subject_ids == ("a", "b")
    assert cache.spec == GLIOMA
    assert cache.spacing_mm == (1, 1, 1)
    study, entry = make_study(1), Cache(cache.folder).entry("b")
    assert isinstance(entry.image, np.memmap)
    assert entry.image.dtype == np.float16
    np.testing.assert_array_equal(np.asarray(entry.image, np.float32), study.image)
    np.testing.assert_array_equal(entry.label, study.label)
    np.testing.assert_array_equal(entry.statistics, study.statistics)
    np.testing.assert_array_equal(entry.boxes, study.boxes)
    assert entry.present.tolist() == [True, False, False, True]
    assert entry.spacing_mm == (1, 1, 1)
    assert entry.geometry.matches(study.geometry)
    np.testing.assert_allclose(entry.affine @ (0, 0, 0, 1), (5 - 11, 6 - 13, 7, 1))  # left, posterior, inferior
    assert cache.entry("a").label is None


def test_site_and_class_are_told_and_are_no_content(cache):
    before, sidecar = cache.fingerprint(), (cache.folder / "b.json").read_bytes()
    assert not {"site", "class_label"} & json.loads(sidecar).keys()  # a cache from before there were any
    assert (cache.entry("b").site, cache.entry("b").class_label, cache.sites, cache.class_labels) == ("", "", (), ())
    for name, facts in {
        "a": {"site": "Ulm", "class_label": "high"},
        "b": {"site": "Bern", "class_label": ""},
    }.items():
        assert cache.update_facts(name, facts)
        assert not cache.update_facts(name, facts)
    told = Cache(cache.folder)
    assert [(told.entry(name).site, told.entry(name).class_label) for name in "ab"] == [("Ulm", "high"), ("Bern", "")]
    assert (told.sites, told.class_labels) == (("Bern", "Ulm"), ("high",))
    batches = [volume_batch(told, name) for name in "ab"]
    assert [(batch.site.item(), batch.class_label.item()) for batch in batches] == [(1, 0), (0, -1)]
    assert told.fingerprint() == before
    told.verify("a")
    silent = Cache(cache.folder, facts=("class_label",))
    assert (silent.entry("a").site, silent.sites, silent.class_labels) == ("", (), ("high",))
    assert volume_batch(silent, "a").site.item() == -1
    assert cache.update_facts("b", {})
    assert (cache.folder / "b.json").read_bytes() == sidecar
    made = make_study(1)._replace(site="Bern")
    cache.write_entry("b", made)
    assert Cache(cache.folder).entry("b").site == "Bern"


def test_a_resampled_entry_knows_where_it_lies(tmp_path):
    cache = Cache.create(tmp_path, GLIOMA, (2, 2, 2))
    study = make_study(spacing=2)
    cache.write_entry("a", study)
    entry = cache.entry("a")
    assert cache.spacing_mm == entry.spacing_mm == (2, 2, 2)
    np.testing.assert_allclose(entry.affine, study.grid.affine_dhw)
    assert entry.geometry.shape == SHAPE[::-1]


def test_rewriting_replaces_the_old_entry(cache):
    cache.write_entry("b", make_study(3, labelled=False))
    assert cache.entry("b").label is None
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted(
        ["dataset.json", "a.json", "a.npy", "b.json", "b.npy"]
    )


def test_the_fingerprint_follows_content_only(cache, tmp_path):
    first = cache.fingerprint()
    copy = shutil.copytree(cache.folder, tmp_path / "copy")
    assert Cache(copy).fingerprint() == first
    other = Cache(copy)
    other.write_entry("b", make_study(1), sources={"t1": {"file": "elsewhere.nii", "bytes": 1, "sha256": "2"}})
    assert other.fingerprint() == first
    changes = {
        "voxels": lambda c: c.write_entry("b", make_study(9)),
        "label": lambda c: c.write_entry("b", make_study(1, labelled=False)),
        "name": lambda c: c.write_entry("c", make_study(1)),
    }
    seen = {first}
    for change in changes.values():
        shutil.rmtree(copy)
        other = Cache(shutil.copytree(cache.folder, copy))
        change(other)
        seen.add(other.fingerprint())
    assert len(seen) == 4


@pytest.mark.parametrize("damage", ["cut", "gone", "other shape"])
def test_damage_is_named(cache, damage):
    path = cache.folder / "b.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.zeros((4, 2, 2, 2), np.float16))
    with pytest.raises(UserError, match=r"b.npy: is missing or damaged"):
        cache.entry("b")


@pytest.mark.parametrize("name", ["b.npy", "b.label.npy"])
def test_a_changed_byte_is_found_before_the_voxels_are_used(cache, name):
    path = cache.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    fresh = Cache(cache.folder)
    fresh.entry("b")  # opens no voxel
    for read in (lambda: fresh.verify("b"), lambda: volume_batch(Cache(cache.folder), "b")):
        with pytest.raises(UserError, match=f"{name}: was changed or damaged; run anymri preprocess again"):
            read()
    with pytest.raises(UserError, match="was changed or damaged"):
        PatchLoader(Cache(cache.folder), ["b"], (8, 8, 8), 1).batch(0, 0, 0)


def test_cleaning_removes_what_is_damaged_unfinished_or_unknown(cache):
    cache.write_entry("c", make_study(3))
    cache.write_entry("d", make_study(4))
    good = sorted(path.name for path in cache.folder.iterdir() if path.name[0] not in "cd" or path.name[:4] == "data")
    (cache.folder / "c.npy").write_bytes(b"")
    (cache.folder / "e.label.npy").write_bytes(b"a sidecar was to follow")
    leftover = cache.folder / ".f.npy.1.part"
    leftover.write_bytes(b"")
    with replace_file(cache.folder / "g.npy"):
        state = check_cache(cache.folder, ["a", "b", "c"])
        assert (cache.folder / "d.npy").exists()
        assert clean_cache(cache.folder, ["a", "b", "c"]) == state
    assert (state.subjects, list(state.damaged), state.unknown) == (3, ["c"], ("d",))
    assert {path.name for path in state.leftovers} == {leftover.name, "e.label.npy"}
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted(["g.npy", *good])
    assert check_cache(cache.folder).subjects == 2


def test_what_is_no_cache_is_refused(cache, tmp_path):
    with pytest.raises(UserError, match="not a cache"):
        Cache(tmp_path)
    with pytest.raises(UserError, match="subject nobody is not in this cache"):
        cache.entry("nobody")
    with pytest.raises(UserError, match="another spacing or modalities"):
        Cache.create(cache.folder, DataSpec(modalities=("t1", "t2")), None)
    assert Cache.create(cache.folder, GLIOMA, None).subject_ids == ("a", "b")
    with pytest.raises(UserError, match="cannot name a subject"):
        cache.write_entry("../a", make_study())
    settings = cache.folder / "dataset.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text(encoding="utf-8")), "format": 0}))
    with pytest.raises(UserError, match="has format 0"):
        Cache(cache.folder)
    settings.write_text("{")
    with pytest.raises(UserError, match=r"dataset.json: is damaged"):
        Cache(cache.folder)
    empty = Cache.create(tmp_path / "empty", GLIOMA, None)
    with pytest.raises(UserError, match="no subject"):
        _ = empty.spacing_mm


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("key", ["statistics", "spacing_mm", "affine"])
def test_numbers_of_a_sidecar_are_finite(cache, key, text):
    path = cache.folder / "b.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    if key == "statistics":
        content[key]["flair"]["mean"], place = "BAD", "statistics.flair.mean"
    else:
        content[key][1], place = "BAD", f"{key}.1"
    path.write_text(json.dumps(content).replace('"BAD"', text), encoding="utf-8")
    with pytest.raises(UserError, match=rf"b\.json: {place} is no finite number; run anymri preprocess again"):
        Cache(cache.folder).entry("b")


def test_a_changed_sidecar_is_noticed_wherever_it_is_read(cache):
    path = cache.folder / "b.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    changed = copy.deepcopy(whole)
    changed["statistics"]["flair"]["mean"] = 1e9
    sources = {"t1": {"file": "t1.nii.gz", "bytes": 1, "sha256": "2"}}
    plain = {key: value for key, value in whole.items() if key != "sha256"}
    for content, says in (
        (changed, "sha256 does not fit"),
        ({**whole, "site": "Ulm"}, "sha256 does not fit"),
        (plain, "sha256 is missing"),
        (seal({**plain, "subject_id": "a"}), "subject_id is 'a', of another subject"),
        (seal({**plain, "present": ["flair", "t2", "t1", "dwi"]}), "boxes and present name different modalities"),
        (seal({**plain, "shape": [4, 9, 9]}), "boxes.* is not within shape"),
    ):
        path.write_text(json.dumps(content), encoding="utf-8")
        for read in (lambda: volume_batch(Cache(cache.folder), "b"), Cache(cache.folder).fingerprint):
            with pytest.raises(UserError, match=rf"b\.json: .*{says}.*; run anymri preprocess again"):
                read()
        assert says.split(".")[0] in check_cache(cache.folder).damaged["b"]
    path.write_text(json.dumps(seal({**plain, "sources": sources})), encoding="utf-8")
    assert "key is that of other settings or files" in check_cache(cache.folder).damaged["b"]
    settings = cache.folder / "dataset.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    content["spec"]["labels"] = {"ncr": 2, "edema": 1, "et": 3}
    settings.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"dataset\.json: was changed .*; run anymri preprocess into a new folder"):
        Cache(cache.folder)


def test_damaged_tables_are_told_and_never_removed(cache):
    tables = Tables.create(cache.folder / "tables", {"clinical": ArrayKind("float32", (2,), ("age", "sex"))})
    path = tables.write("a", {"clinical": np.array([63, 1], np.float32)})
    assert check_cache(cache.folder).damaged_tables == ()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (told,) = clean_cache(cache.folder).damaged_tables
    assert "a.safetensors: was changed or damaged" in told
    assert path.is_file()
    description = tables.folder / "tables.json"
    description.write_text(description.read_text(encoding="utf-8").replace('"age"', '"sex"', 1), encoding="utf-8")
    (told,) = check_cache(cache.folder).damaged_tables
    assert "tables.json: was changed" in told


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_whose_checksum_is_right_but_that_is_no_image(cache, value):
    path, sidecar = cache.folder / "b.npy", cache.folder / "b.json"
    array = np.load(path)
    assert np.isnan(array[1]).all()  # t1c is absent, which is no damage
    cache.verify("b")
    array[3, 4, 5, 6] = value
    np.save(path, array)
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    content["image_sha256"] = hashlib.sha256(array.data).hexdigest()
    write_record(sidecar, {key: value for key, value in content.items() if key != "sha256"})
    with pytest.raises(UserError, match=r"b\.npy: flair holds NaN or infinite values; run anymri preprocess again"):
        volume_batch(Cache(cache.folder), "b")
    assert "flair holds NaN" in check_cache(cache.folder).damaged["b"]


def test_a_subject_is_a_name_in_the_cache_and_no_way_out_of_it(cache, tmp_path):
    other = Cache.create(tmp_path / "other", GLIOMA, None)
    other.write_entry("secret", make_study(3))
    for name in ("../other/secret", str(other.folder / "secret"), ".."):
        with pytest.raises(UserError, match="must be usable as a file name"):
            cache.entry(name)
