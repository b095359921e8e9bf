"""What is hidden of a training subject is as if it had never been acquired."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import make_study

from anymri.data.augment import AUGMENTATIONS
from anymri.data.cache import Cache
from anymri.data.hiding import draw_hidden
from anymri.data.loading import PatchLoader, volume_batch
from anymri.types import GLIOMA, Batch, UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    """Forty subjects of which every fourth lacks T2; their voxels do not matter here."""
    made = Cache.create(tmp_path_factory.mktemp("hiding") / "cache", GLIOMA, None)
    studies = make_study(0, GLIOMA.modalities), make_study(1, ("t1", "t1c", "flair"))
    for number in range(40):
        made.write_entry(f"s{number:02}", studies[number % 4 == 0])
    return made


def test_named_sequences_are_hidden_of_the_subjects_that_fit_first(cache):
    found = draw_hidden(cache, ["s01", "s04", "s12"], {"s0*": "flair+t2", "s*": "t1"}, seed=0)
    assert found == {"s01": ("t2", "flair"), "s04": ("flair",), "s12": ("t1",)}  # s04 lacks T2 anyway
    assert draw_hidden(cache, ["s01", "s12"], {"s1*": "t1"}, seed=0) == {"s12": ("t1",)}


def test_a_share_of_the_subjects_keeps_any_proper_subset_equally_often(cache):
    complete = [name for number, name in enumerate(cache.subject_ids) if number % 4]
    drawn: Counter[tuple[str, ...]] = Counter()
    count = 0
    for seed in range(40):
        hidden = draw_hidden(cache, complete, {"*": 0.7}, seed)
        count += len(hidden)
        drawn.update(hidden.values())
    total = 40 * len(complete)
    assert abs(count - 0.7 * total) < 4 * np.sqrt(0.7 * 0.3 * total)
    assert len(drawn) == 14  # every subset but none and all
    assert max(abs(n - count / 14) for n in drawn.values()) < 4 * np.sqrt(count / 14)
    lacking = draw_hidden(cache, ["s00"], {"*": 1.0}, 0)["s00"]
    assert set(lacking) < {"t1", "t1c", "flair"}
    assert lacking


def test_a_draw_follows_seed_and_subject_alone(cache):
    every = draw_hidden(cache, cache.subject_ids, {"*": 0.5}, seed=3)
    some = draw_hidden(cache, cache.subject_ids[10:20][::-1], {"*": 0.5}, seed=3)
    assert some == {name: codes for name, codes in every.items() if name in cache.subject_ids[10:20]}
    assert draw_hidden(cache, cache.subject_ids, {"*": 0.5}, seed=4) != every


@pytest.mark.parametrize(
    ("hide", "says"),
    [
        ({"x*": "t1"}, "no training subject fits 'x*'"),
        ({"s*": "t9"}, "'t9' is not one of t1, t1c, t2, flair"),
        ({"s*": 1.5}, "the share 1.5 of 's*' is not in (0, 1]"),
        ({"s*": "t1+t1c+flair"}, "leaves subject s00 no sequence"),
    ],
)
def test_mistakes_are_told(cache, hide, says):
    with pytest.raises(UserError) as raised:
        draw_hidden(cache, cache.subject_ids, hide, seed=0)
    assert says in str(raised.value)


def equal(one: Batch, other: Batch) -> bool:
    """Bit for bit, NaN like NaN."""
    assert one.where is not None
    assert other.where is not None
    pairs = zip(
        (one.image, one.label, one.present, one.available, one.statistics, *one.where),
        (other.image, other.label, other.present, other.available, other.statistics, *other.where),
        strict=True,
    )
    return one.subject_ids == other.subject_ids and all(
        a.numpy().tobytes() == b.numpy().tobytes()  # type: ignore[union-attr]
        for a, b in pairs
    )


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_batches_are_those_of_a_cohort_in_which_the_hidden_was_never_acquired(tmp_path: Path, augment: str) -> None:
    hidden = {"p0": ("t1c", "t2"), "p1": ("flair",)}
    kept = {"p0": ("t1", "flair"), "p1": ("t1", "t1c", "t2")}
    caches = {}
    for poison in ("never acquired", "as it was", np.nan, 65504.0, 0.0):
        made = caches[poison] = Cache.create(tmp_path / str(poison), GLIOMA, None)
        for number, (name, codes) in enumerate(hidden.items()):
            study = make_study(number, GLIOMA.modalities)
            image, statistics, boxes = np.array(study.image), np.array(study.statistics), np.array(study.boxes)
            for code in codes:
                channel = GLIOMA.index(code)
                if poison == "never acquired":
                    image[channel], statistics[channel], boxes[channel] = np.nan, np.nan, 0
                elif not isinstance(poison, str):  # its box would move crops, its statistics the intensity scale
                    image[channel], statistics[channel], boxes[channel] = (
                        poison,
                        1e30,
                        ((0, 0, 0), study.image.shape[1:]),
                    )
            present = np.array([code in kept[name] for code in GLIOMA.modalities])
            present = present if poison == "never acquired" else study.present
            made.write_entry(name, study._replace(image=image, statistics=statistics, boxes=boxes, present=present))
    reference = caches.pop("never acquired")
    for made in caches.values():
        view = Cache(made.folder, hidden)
        first, second = (
            PatchLoader(one, ("p0", "p1"), (12, 12, 12), 2, augment=augment, foreground=0.3)
            for one in (reference, view)
        )
        assert all(equal(first.batch(0, epoch, 0), second.batch(0, epoch, 0)) for epoch in range(6))
        assert all(equal(volume_batch(reference, name), volume_batch(view, name)) for name in hidden)
        shown = volume_batch(view, "p0")
        assert shown.present.tolist() == [[True, False, False, True]]
        assert torch.equal(shown.image.isnan().flatten(2).all(dim=2), ~shown.present)
