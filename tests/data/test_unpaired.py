"""Unpaired rows: every sequence of another subject, and the batch says of which."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import make_study

from anymri.data.augment import AUGMENTATIONS
from anymri.data.cache import Cache
from anymri.data.loading import PatchLoader, volume_batch
from anymri.data.unpaired import draw_sources
from anymri.types import GLIOMA, UNLABELLED, Batch, UserError

NAMES = [f"p{number}" for number in range(6)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    """Six subjects: p1 lacks T2, p4 and p5 have no label map."""
    made = Cache.create(tmp_path_factory.mktemp("unpaired") / "cache", GLIOMA, None)
    for number, name in enumerate(NAMES):
        codes = ("t1", "t1c", "flair") if number == 1 else GLIOMA.modalities
        made.write_entry(name, make_study(number, codes, labelled=number < 4)._replace(site=f"site {number % 2}"))
    return made


def loader(cache: Cache, names=NAMES, unpaired: bool = True, **options) -> PatchLoader:
    chosen = {"patch": (12, 14, 16), "batch_size": 3, "augment": "none"} | options
    return PatchLoader(cache, names, chosen.pop("patch"), chosen.pop("batch_size"), unpaired=unpaired, **chosen)


def window(values: torch.Tensor, where, *place: int) -> torch.Tensor:
    """The voxels that a crop without augmentation shows of a volume (D, H, W)."""
    start = where.origin[place].tolist()
    return values[tuple(slice(first, first + size) for first, size in zip(start, (12, 14, 16), strict=True))]


def of_row(batch: Batch) -> torch.Tensor:
    return batch.identity == torch.arange(len(batch.image))[:, None]  # type: ignore[operator]


def test_identity_says_whose_every_channel_is(cache):
    whole = {name: volume_batch(cache, name) for name in NAMES}
    draws = loader(cache)
    for epoch in range(8):
        batch = draws.batch(0, epoch, 0)
        assert batch.where.origin.shape == batch.where.flipped.shape == (3, 4, 3)
        assert torch.equal(batch.identity >= 0, batch.present)
        for row, channel in batch.present.nonzero().tolist():
            source = whole[batch.subject_ids[batch.identity[row, channel]]]
            expected = window(source.image[0, channel], batch.where, row, channel)
            assert torch.equal(batch.image[row, channel], expected)
            assert torch.equal(batch.statistics[row, channel], source.statistics[0, channel])
            assert batch.where.volume_shape[row, channel].tolist() == list(source.image.shape[2:])
        assert batch.image.isnan().flatten(2).all(dim=2).equal(~batch.present)
        assert torch.equal(batch.available, batch.present)


def test_identity_tells_paired_from_unpaired(cache):
    for epoch in range(8):
        batch = loader(cache).batch(0, epoch, 0)
        for numbers, present in zip(batch.identity, batch.present, strict=True):
            assert len(set(numbers[present].tolist())) == present.sum() == 4  # no subject gives two channels of a row
        paired = loader(cache, unpaired=False).batch(0, epoch, 0)
        assert torch.equal(paired.identity, torch.where(paired.present, torch.arange(3)[:, None], -1))
        assert paired.subject_ids == batch.subject_ids[:3]  # the rows' own subjects are drawn alike
        assert paired.where.origin.shape == (3, 3)
        assert paired.site.equal(batch.site)


def test_the_label_map_is_that_of_the_channel_of_the_rows_own_subject(cache):
    channels: Counter[int] = Counter()
    for epoch in range(30):
        batch = loader(cache).batch(0, epoch, 0)
        assert of_row(batch).sum(dim=1).tolist() == [1, 1, 1]
        assert batch.labelled.tolist() == [name in NAMES[:4] for name in batch.subject_ids[:3]]
        assert (batch.label[~batch.labelled] == UNLABELLED).all()
        for row, channel in of_row(batch).nonzero().tolist():
            channels[channel] += 1
            if batch.labelled[row]:
                label = volume_batch(cache, batch.subject_ids[row]).label[0]
                assert torch.equal(batch.label[row], window(label, batch.where, row, channel))
    assert min(channels.values()) > 10  # every sequence is labelled in turn


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_a_channel_depends_on_its_own_sequence_alone(cache, tmp_path: Path, augment: str) -> None:
    """Boxes, values and statistics of sequences that were not drawn, and label maps of others, are as if not there."""
    names = NAMES[:4]
    before = loader(cache, names, augment=augment, foreground=0.5).batch(0, 1, 0)
    assert before.identity is not None
    used = {
        (before.subject_ids[before.identity[place]], place[1])
        for place in map(tuple, before.present.nonzero().tolist())
    }
    own = set(before.subject_ids[:3])
    other = Cache.create(tmp_path / "other", GLIOMA, None)
    for name in names:
        study = cache.entry(name)
        image, statistics, boxes = np.array(study.image), np.array(study.statistics), np.array(study.boxes)
        for channel in np.flatnonzero(study.present):
            if (name, channel) not in used:
                image[channel], statistics[channel] = 65504, 1e30
                boxes[channel] = (0, 0, 0), study.image.shape[1:]
        label = study.label if name in own else np.full_like(study.label, 3)
        other.write_entry(name, study._replace(image=image, statistics=statistics, boxes=boxes, label=label))
    after = loader(other, names, augment=augment, foreground=0.5).batch(0, 1, 0)
    for one, two in zip((*before[:5], *before.where), (*after[:5], *after.where), strict=True):  # type: ignore[misc]
        assert one.numpy().tobytes() == two.numpy().tobytes()


def test_who_gives_a_channel_is_drawn_evenly_and_never_twice_in_a_row():
    present = {"a": [1, 1, 0], "b": [1, 1, 1], "c": [1, 0, 1], "d": [1, 1, 1]}
    rows = {name: np.array(row, bool) for name, row in present.items()}
    drawn: Counter[tuple[int, str]] = Counter()
    for seed in range(900):
        sources = draw_sources("a", rows, ("a", "b", "c", "d"), np.random.default_rng(seed))
        assert next(iter(sources.values())) == "a"
        assert len(set(sources.values())) == len(sources)
        assert all(present[name][channel] for channel, name in sources.items())
        drawn.update(sources.items())
    assert abs(drawn[0, "a"] - 450) < 60
    assert drawn[2, "a"] == 0
    assert min(drawn[2, name] for name in "bcd") > 200
    alone = draw_sources("a", rows, ("a", "c"), np.random.default_rng(0))
    assert set(alone.values()) == {"a", "c"}
    assert len(alone) == 2  # one channel is left without a subject


def test_unpaired_rows_need_another_subject(cache):
    with pytest.raises(UserError, match="unpaired rows need two subjects, p0 is alone"):
        loader(cache, ["p0", "p0"])


def test_an_unpaired_batch_depends_on_its_place_alone(cache):
    draws = loader(cache, augment="strong")
    first = draws.batch(1, 2, 3)
    draws.batch(0, 0, 0)
    again, later = loader(cache, augment="strong").batch(1, 2, 3), draws.batch(1, 2, 4)
    assert first.image.numpy().tobytes() == again.image.numpy().tobytes()
    assert first.subject_ids == again.subject_ids
    assert not torch.equal(first.image.nan_to_num(), later.image.nan_to_num())
