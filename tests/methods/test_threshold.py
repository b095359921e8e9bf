"""The threshold baseline: who decides, and what `fit` chooses."""

import itertools

import pytest
import torch

from anymri.methods import create
from anymri.types import GLIOMA, STATISTICS, Batch, DataSpec


def subject(present=(True,) * 4, rim=True, seed=0):
    """An image on which thresholds 1.0 (t1c: 2.0) are right, in one or another order of `GLIOMA.modalities`."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.zeros(1, 8, 8, 8, dtype=torch.int64)
    label[0, 2:6, 2:6, 2:6] = 2
    if rim:
        label[0, 3:5, 3:5, 3:5] = 3
    noise = 0.1 * torch.rand(1, 4, 8, 8, 8, generator=generator)
    image = 0.8 + noise + 0.6 * (label > 0)[:, None]
    image[:, 1] += 1.0 * (label[:, None] == 3)[:, 0]
    row = torch.tensor([present])
    image = torch.where(row[..., None, None, None], image, torch.nan)
    return Batch(image, label, row, row, torch.zeros(1, 4, len(STATISTICS)))


def test_fit_finds_the_thresholds_and_they_reach_dice_one():
    method = create("threshold")
    logs = method.fit(iter([subject(seed=1), subject((False, True, True, True), seed=2), subject(rim=False)]), None)
    assert method.lesion_threshold.tolist() == [1.0] * 4
    assert 1.5 <= method.enhancing_threshold.item() <= 2.25
    assert logs["dice_flair"] == pytest.approx(1)
    assert logs["dice_et"] == pytest.approx(1)
    batch = subject(seed=3)
    found = method.predict(batch.image, batch.present).logits.argmax(1)
    assert torch.equal(found, batch.label)


def test_fit_agrees_with_trying_every_threshold():
    batch = subject()
    batch = batch._replace(image=torch.randn(1, 4, 8, 8, 8) + 0.7 * (batch.label > 0)[:, None])
    method = create("threshold")
    logs = method.fit([batch], None)
    grid = [0.25 * (i + 1) for i in range(16)]

    def dice(found, wanted):
        return (2 * (found & wanted).sum() / (found.sum() + wanted.sum())).item()

    for modality, code in enumerate(GLIOMA.modalities):
        scores = [dice(batch.image[0, modality] > t, batch.label[0] > 0) for t in grid]
        assert method.lesion_threshold[modality] == grid[scores.index(max(scores))]
        assert logs[f"dice_{code}"].item() == pytest.approx(max(scores), abs=1e-6)
    lesion = batch.image[0, 3] > method.lesion_threshold[3]
    scores = [dice(lesion & (batch.image[0, 1] > t), batch.label[0] == 3) for t in grid]
    assert method.enhancing_threshold == grid[scores.index(max(scores))]


def test_flair_decides_then_t2_then_t1c_then_t1():
    method = create("threshold")
    image = torch.zeros(4, 4, 1, 1, 4)
    for modality in range(4):
        image[:, modality, 0, 0, modality] = 3.0
    for row, decides in zip(
        torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]).bool(), (3, 2, 1, 0), strict=True
    ):
        found = method.predict(image[:1], row[None]).logits.argmax(1)[0, 0, 0]
        assert [i for i in range(4) if found[i]] == [decides]


def test_a_modality_nobody_has_keeps_its_default():
    method = create("threshold")
    method.fit([subject((False, False, True, True))], None)
    assert method.lesion_threshold[:2].tolist() == [1.5, 1.5]
    assert method.enhancing_threshold == 1.5


def test_a_specification_without_enhancement():
    spec = DataSpec(("t1", "flair"), labels={"lesion": 1}, regions={"lesion": ("lesion",)})
    method = create("threshold", spec)
    image = torch.zeros(1, 2, 1, 1, 2)
    image[0, 1, 0, 0, 1] = 2.0
    for row in itertools.product((True, False), repeat=2):
        if any(row):
            found = method.predict(image, torch.tensor([row])).logits.argmax(1).flatten().tolist()
            assert found == ([0, 1] if row[1] else [0, 0])
