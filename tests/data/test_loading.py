from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymri.data.augment import AUGMENTATIONS
from anymri.data.cache import Cache
from anymri.data.geometry import Geometry
from anymri.data.loading import PatchLoader, volume_batch
from anymri.data.preprocess import preprocess_study
from anymri.data.study import Study
from anymri.types import GLIOMA, STATISTICS, UNLABELLED, Batch, UserError

SHAPE = (20, 24, 28)
START, STOP = np.array([3, 4, 5]), np.array([17, 20, 25])
#: Where the frame of this brain begins, and its shape: multiples of eight voxels from the middle (10, 12, 15).
FRAME, FRAME_SHAPE = np.array([2, 4, -1]), [16, 16, 32]


def entry(name: str, absent: tuple[int, ...] = (), lesion: tuple[int, ...] | None = (8, 9, 10)) -> Study:
    """Channels 0, 1, 2 hold the voxel's place along D, H, W (+1), channel 3 a constant; 0 outside the brain."""
    brain = np.zeros(SHAPE, bool)
    brain[tuple(map(slice, START, STOP))] = True
    image = np.concatenate([np.indices(SHAPE) + 1, np.full((1, *SHAPE), 7)]).astype(np.float16) * brain
    boxes = np.stack([np.stack([START, STOP])] * 4)
    present = np.ones(4, bool)
    for channel in absent:
        image[channel], boxes[channel], present[channel] = np.nan, 0, False
    label = None
    if lesion is not None:
        label = np.zeros(SHAPE, np.uint8)
        label[tuple(slice(start, start + 2) for start in lesion)] = 2
        label[lesion] = 3
    statistics = np.where(present[:, None], np.arange(8.0), np.nan).astype(np.float32)
    geometry = Geometry(np.eye(4), SHAPE[::-1])
    middles = np.tile((START + STOP) / 2, (4, 1))
    return Study(image, present, label, statistics, boxes, middles, (1.0, 1.0, 1.0), geometry, subject_id=name)


class Subjects:
    """Stands for a cache of the given entries."""

    sites = class_labels = ()
    tables = None

    def __init__(self, *entries: Study) -> None:
        self.entries = {one.subject_id: one for one in entries}

    def entry(self, subject_id: str) -> Study:
        return self.entries[subject_id]

    def verify(self, subject_id: str) -> None:
        """Nothing on disk that could be damaged."""


def loader(*entries: Study, **options: Any) -> PatchLoader:
    entries = entries or (entry("a"), entry("b", absent=(1,)), entry("c", absent=(0, 3)))
    chosen = {"patch": (8, 10, 12), "batch_size": 2, "augment": "none"} | options
    return PatchLoader(Subjects(*entries), [one.subject_id for one in entries], **chosen)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    assert one.label is not None
    assert other.label is not None
    assert one.where is not None
    assert other.where is not None
    pairs = [*zip((one.image, one.statistics), (other.image, other.statistics), strict=True)]
    return (
        all(torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
        and torch.equal(one.label, other.label)
        and torch.equal(one.present, other.present)
        and all(torch.equal(a, b) for a, b in zip(one.where, other.where, strict=True))
        and one.subject_ids == other.subject_ids
    )


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_a_batch_depends_on_its_arguments_alone(augment: str) -> None:
    first = loader(augment=augment, steps_per_epoch=6, seed=4)
    in_order = [first.batch(1, 2, step) for step in range(6)]
    second = loader(augment=augment, steps_per_epoch=6, seed=4)
    second.batch(0, 0, 0)
    assert all(same(second.batch(1, 2, step), in_order[step]) for step in reversed(range(6)))
    prefetched = list(loader(augment=augment, steps_per_epoch=6, seed=4).batches(1, 2, start=2))
    assert [same(a, b) for a, b in zip(prefetched, in_order[2:], strict=True)] == [True] * 4


@pytest.mark.parametrize("other", [(0, 2, 3), (1, 3, 3), (1, 2, 4)])
def test_stage_epoch_step_and_seed_all_matter(other: tuple[int, int, int]) -> None:
    assert not same(loader(augment="standard").batch(1, 2, 3), loader(augment="standard").batch(*other))
    # One subject: its order cannot make the difference, the crop alone must.
    alone = loader(entry("a"), batch_size=1, foreground=0.0)
    assert not same(alone.batch(1, 2, 3), alone.batch(*other))
    one, two = (loader(augment="standard", seed=seed).batch(1, 2, 3) for seed in (0, 1))
    assert not same(one, two)
    one, two = (loader(entry("a"), batch_size=1, foreground=0.0, seed=seed).batch(1, 2, 3) for seed in (0, 1))
    assert not same(one, two)


def test_some_rows_get_the_lesion_of_another_subject() -> None:
    own, other = entry("a", lesion=None), entry("b", lesion=(8, 9, 10))
    own = own._replace(label=np.zeros(SHAPE, np.uint8))
    options = {"patch": SHAPE, "steps_per_epoch": 20, "batch_size": 1, "foreground": 0.0}
    rows = [loader(own, other, transplants=0.5, **options).batch(0, 0, step) for step in range(40)]
    of_own = [row for row in rows if row.subject_ids == ("a",)]
    assert all(row.label is not None for row in rows)
    share = np.mean([bool(row.label.any()) for row in of_own if row.label is not None])
    assert 0.05 < share < 0.5  # half of the rows draw, half of these draw themselves
    none = [loader(own, other, **options).batch(0, 0, step) for step in range(40)]
    assert not any(row.label.any() for row in none if row.subject_ids == ("a",) and row.label is not None)
    again = loader(own, other, transplants=0.5, **options).batch(0, 0, 3)
    assert same(again, rows[3])


def test_shapes_and_types() -> None:
    batch = loader(batch_size=3).batch(0, 0, 0)
    assert batch.image.shape == (3, 4, 8, 10, 12)
    assert batch.image.dtype == torch.float32
    assert batch.label is not None
    assert (batch.label.shape, batch.label.dtype) == ((3, 8, 10, 12), torch.int64)
    assert (batch.present.shape, batch.present.dtype) == ((3, 4), torch.bool)
    assert torch.equal(batch.available, batch.present)
    assert batch.available.data_ptr() != batch.present.data_ptr()
    assert batch.statistics.shape == (3, 4, len(STATISTICS))
    assert batch.where is not None
    assert batch.where.origin.dtype == batch.where.volume_shape.dtype == torch.int64
    assert batch.where.volume_shape.tolist() == [FRAME_SHAPE] * 3
    assert sorted(batch.subject_ids) == ["a", "b", "c"]


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_absent_is_nan_and_nothing_else_is(augment: str) -> None:
    draws = loader(augment=augment, patch=(30, 30, 30), steps_per_epoch=20)
    for step in range(20):
        batch = draws.batch(0, 0, step)
        nan = batch.image.isnan().flatten(2)
        assert torch.equal(nan.all(dim=2), ~batch.present)
        assert torch.equal(nan.any(dim=2), ~batch.present)
        assert torch.equal(batch.statistics.isnan().any(dim=2), ~batch.present)
        for name, row in zip(batch.subject_ids, batch.present, strict=True):
            assert row.tolist() == {"a": [1, 1, 1, 1], "b": [1, 0, 1, 1], "c": [0, 1, 1, 0]}[name]


@pytest.mark.parametrize("patch", [(8, 10, 12), (18, 20, 20), (20, 24, 28), (26, 30, 28), (1, 1, 1)])
def test_a_crop_is_the_volume_at_its_origin_and_zero_beyond(patch: tuple[int, int, int]) -> None:
    one = entry("a")
    draws = loader(one, patch=patch, batch_size=1)
    for step in range(20):
        batch = draws.batch(0, 0, step)
        assert batch.where is not None
        assert batch.label is not None
        origin = batch.where.origin[0].numpy() + FRAME
        # A frame wide enough for every crop, with the volume in its middle.
        frame = [(40, 40)] * 3
        window = tuple(slice(40 + start, 40 + start + size) for start, size in zip(origin, patch, strict=True))
        expected = np.pad(np.asarray(one.image, np.float32), [(0, 0), *frame])[:, *window]
        np.testing.assert_array_equal(batch.image[0].numpy(), expected)
        np.testing.assert_array_equal(batch.label[0].numpy(), np.pad(one.label, frame)[window])


def test_crops_stay_in_the_brain_or_cover_it() -> None:
    draws = loader(entry("a", absent=(2,)), patch=(8, 18, 26), batch_size=1, foreground=0.0)
    origins = np.concatenate([draws.batch(0, 0, step).where.origin.numpy() for step in range(300)])  # type: ignore[union-attr]
    # D: 8 of 14 brain voxels; H: 18 covers 16; W: 26 covers 20 and may reach beyond the array.
    for axis, allowed in enumerate((range(3, 10), range(2, 5), range(-1, 6))):
        assert set(origins[:, axis] + FRAME[axis]) == set(allowed)


def test_crops_are_the_same_in_an_array_with_more_empty_space() -> None:
    one, wide = entry("a"), [(5, 1), (0, 3), (2, 2)]
    moved = {"boxes": one.boxes + np.array([5, 0, 2]), "middles": one.middles + np.array([5, 0, 2])}
    assert one.label is not None
    other = one._replace(image=np.pad(one.image, [(0, 0), *wide]), label=np.pad(one.label, wide), **moved)
    for patch in ((8, 10, 12), (24, 28, 30), None):
        first, second = (
            loader(study, patch=patch, batch_size=1, augment="strong").batch(0, 0, 0) for study in (one, other)
        )
        assert same(first, second)


@pytest.mark.parametrize("share", [0.0, 2 / 3, 1.0])
def test_share_of_crops_centred_on_the_lesion(share: float) -> None:
    draws = loader(entry("a", lesion=(10, 11, 12)), patch=(3, 3, 3), batch_size=1, foreground=share)
    hits = sum(bool(draws.batch(0, 0, step).label[0, 1, 1, 1]) for step in range(600))  # type: ignore[index]
    by_chance = 8 / (12 * 14 * 18)
    expected = 600 * (share + (1 - share) * by_chance)
    assert abs(hits - expected) <= 4 * np.sqrt(600 * share * (1 - share)) + (6 if share < 1 else 0)


def test_rare_labels_are_centred_as_often_as_frequent_ones() -> None:
    draws = loader(entry("a", lesion=(10, 11, 12)), patch=(3, 3, 3), batch_size=1, foreground=1.0)
    centres = Counter(int(draws.batch(0, 0, step).label[0, 1, 1, 1]) for step in range(400))  # type: ignore[index]
    assert centres[2] + centres[3] == 400
    assert abs(centres[3] - 200) < 50, "label 3 is one of eight voxels"


def test_an_epoch_sees_every_subject_once_and_then_again() -> None:
    names = "abcdefg"
    draws = loader(*(entry(name) for name in names), batch_size=2)
    assert draws.steps_per_epoch == 4
    for epoch in range(3):
        drawn = [name for batch in draws.batches(0, epoch, prefetch=0) for name in batch.subject_ids]
        assert sorted(drawn[:7]) == list(names)
    orders = {tuple(b.subject_ids for b in draws.batches(0, epoch)) for epoch in range(5)}
    assert len(orders) == 5
    longer = loader(*(entry(name) for name in names), batch_size=2, steps_per_epoch=21)
    drawn = [name for batch in longer.batches(0, 0) for name in batch.subject_ids]
    assert set(Counter(drawn).values()) == {6}
    assert sorted(drawn[7:14]) == list(names)
    assert drawn[:7] != drawn[7:14]


def test_whole_volumes() -> None:
    one = entry("a")
    batch = loader(one, patch=None, batch_size=1).batch(0, 0, 0)
    frame = np.pad(one.image, [(0, 0), (8, 8), (8, 8), (8, 8)]).astype(np.float32)
    box = tuple(slice(8 + a, 8 + a + n) for a, n in zip(FRAME, FRAME_SHAPE, strict=True))
    np.testing.assert_array_equal(batch.image[0].numpy(), frame[:, *box])
    assert batch.where is not None
    assert batch.where.origin.tolist() == [[0, 0, 0]]
    turned = loader(one, patch=None, batch_size=1, augment="strong").batch(0, 0, 0)
    assert turned.image.shape == batch.image.shape
    alone = volume_batch(Subjects(one), "a")  # type: ignore[arg-type]
    assert same(alone, batch)


def test_no_labels() -> None:
    assert loader(entry("a", lesion=None), entry("b", lesion=None)).batch(0, 0, 0).label is None
    empty = entry("a")._replace(label=np.zeros(SHAPE, np.uint8))
    assert loader(empty, foreground=1.0).batch(0, 0, 0).label is not None


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_a_row_without_a_label_map_says_so_in_every_voxel(augment: str) -> None:
    draws = loader(entry("a"), entry("b", lesion=None), patch=(24, 26, 30), augment=augment)  # beyond the volume too
    for step in range(10):
        batch = draws.batch(0, 0, step)
        assert batch.label is not None
        assert batch.labelled.tolist() == [name == "a" for name in batch.subject_ids]
        assert (batch.label[~batch.labelled] == UNLABELLED).all()
        assert (batch.label[batch.labelled] >= 0).all()
    alone = loader(entry("a"), entry("b", lesion=None), batch_size=1)
    batches = [alone.batch(0, 0, step) for step in range(2)]
    assert sorted((b.subject_ids[0], b.labelled.tolist()) for b in batches) == [("a", [True]), ("b", [False])]
    assert all(b.label is not None for b in batches)  # a batch by chance without any is of this cohort still
    assert not volume_batch(Subjects(entry("b", lesion=None)), "b").labelled.any()  # type: ignore[arg-type]


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UserError, match="no subject"):
        PatchLoader(Subjects(), [], (8, 8, 8), 1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown augmentation 'heavy'"):
        loader(augment="heavy")
    with pytest.raises(ValueError, match="batch size 1"):
        loader(patch=None)


def prefetch_threads() -> int:
    return sum(thread.name == "anymri-prefetch" for thread in threading.enumerate())


def test_the_prefetching_thread_hands_over_errors_and_ends() -> None:
    damaged = entry("b")._replace(image=np.zeros((3, 3, 3)))  # what a broken file might look like
    broken = loader(entry("a"), damaged, batch_size=2)
    with pytest.raises((ValueError, IndexError)):
        list(broken.batches(0, 0))
    batches = loader(steps_per_epoch=50).batches(0, 0)
    next(batches)
    assert prefetch_threads() > 0
    batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while prefetch_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert prefetch_threads() == 0


def test_with_a_real_cache(tmp_path: Path) -> None:
    from anymri.data.nifti import Volume

    random = np.random.default_rng(0)
    geometry = Geometry(np.diag([-1.0, -1.0, 1.0, 1.0]), (28, 24, 20))

    def volume(code: str) -> Volume:
        array = np.zeros(SHAPE, np.float32)
        array[3:17, 4:20, 5:25] = random.uniform(100, 900, (14, 16, 20))
        return Volume(array, geometry, code)

    label = np.zeros(SHAPE, np.int16)
    label[8:11, 8:11, 8:11] = 3
    images = {code: volume(code) for code in ("t1", "flair")}
    study = preprocess_study(images, label=Volume(label, geometry, "seg"))
    cache = Cache.create(tmp_path / "cache", GLIOMA, None)
    cache.write_entry("one", study)
    batch = PatchLoader(cache, cache.subject_ids, (8, 8, 8), 2, augment="strong").batch(0, 0, 0)
    assert batch.present.tolist() == [[True, False, False, True]] * 2
    whole = volume_batch(cache, "one")
    assert whole.image.shape[2:] == (16, 16, 32)  # of the brain, to multiples of eight from its middle
    np.testing.assert_array_equal(whole.image[0, 0, 1:15, :, 6:26].numpy(), study.image[0, 3:17, 4:20, 5:25])
    assert whole.label is not None
    assert whole.label.sum() == label.sum()
