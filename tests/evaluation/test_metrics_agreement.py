"""200 random pairs and hand-made cases against MONAI, scikit-image and scikit-learn, wherever conventions agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from by_hand import GRIDS, hand_made, random_batches, surface_distances_mm

from anymri.evaluation import metrics
from anymri.evaluation.metrics import segmentation
from anymri.evaluation.metrics.calibration import brier
from anymri.evaluation.metrics.classification import auroc, balanced_accuracy

BATCHES = random_batches()
PAIRS = [pair for _, pairs in BATCHES for pair in pairs]


def as_batch(pairs) -> tuple[torch.Tensor, torch.Tensor]:
    predictions, references = (torch.tensor(np.stack(masks)[:, None]).float() for masks in zip(*pairs, strict=True))
    return predictions, references


def test_the_pairs_are_worth_testing():
    assert len(PAIRS) == 200
    assert all(p.any() and r.any() for p, r in PAIRS)
    assert sum(min(p.sum(), r.sum()) < 6 for p, r in PAIRS) >= 3
    assert sum(bool(p[0].any() and p[-1].any()) for p, _ in PAIRS) > 50
    assert sum(not (p & r).any() for p, r in PAIRS) >= 3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("iou", "threat score"),
        ("sensitivity", "sensitivity"),
        ("precision", "precision"),
        ("specificity", "specificity"),
        ("dice", "f1 score"),
    ],
)
def test_overlaps_of_200_pairs_against_monai(ours, theirs):
    from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix

    for _, pairs in BATCHES:
        expected = compute_confusion_matrix_metric(theirs, get_confusion_matrix(*as_batch(pairs)))
        found = [getattr(metrics, ours)(p, r) for p, r in pairs]
        assert found == pytest.approx(expected[:, 0].tolist(), abs=1e-6)


@pytest.mark.parametrize("batch", range(len(GRIDS)))
def test_distances_of_200_pairs_against_monai(batch):
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    spacing, pairs = BATCHES[batch]
    where = {"include_background": True, "spacing": list(spacing)}
    masks = as_batch(pairs)
    expected = {
        "hd95": compute_hausdorff_distance(*masks, percentile=95, **where),
        "asd": compute_average_surface_distance(*masks, symmetric=True, **where),
        "nsd": compute_surface_dice(*masks, [1.5], **where),
    }
    found = {
        "hd95": [metrics.hausdorff(p, r, spacing) for p, r in pairs],
        "asd": [metrics.average_surface_distance(p, r, spacing) for p, r in pairs],
        "nsd": [metrics.normalised_surface_dice(p, r, spacing, 1.5) for p, r in pairs],
    }
    for name, values in found.items():
        # MONAI computes in float32, and takes percentiles of it.
        assert values == pytest.approx(expected[name][:, 0].tolist(), rel=1e-4, abs=1e-5), name


def check_distances_by_hand(pair, spacing):
    to_r, to_p = surface_distances_mm(pair, spacing)
    both = np.concatenate([to_r, to_p])
    assert metrics.hausdorff(*pair, spacing, 100) == pytest.approx(both.max(), abs=1e-12)
    assert metrics.hausdorff(*pair, spacing) == pytest.approx(max(np.percentile(d, 95) for d in (to_r, to_p)))
    assert metrics.average_surface_distance(*pair, spacing) == pytest.approx(both.mean())
    # Not a tolerance that some distance equals: 1.5 mm is, and rounding then decides.
    within = float((both <= 1.45).mean())
    assert metrics.normalised_surface_dice(*pair, spacing, 1.45) == pytest.approx(within)


def test_distances_of_200_pairs_by_hand():
    for spacing, pairs in BATCHES:
        for pair in pairs:
            check_distances_by_hand(pair, spacing)


@pytest.mark.parametrize("case", hand_made())
def test_hand_made_cases(case):
    *pair, spacing = hand_made()[case]
    p, r = pair
    if p.any() and r.any():
        check_distances_by_hand(pair, spacing)
        assert metrics.dice(p, r) == 2 * (p & r).sum() / (p.sum() + r.sum())
        return
    same = float(not p.any() and not r.any())
    diagonal = 0 if same else np.sqrt(sum((n * mm) ** 2 for n, mm in zip(p.shape, spacing, strict=True)))
    for name in ("dice", "iou", "sensitivity", "precision"):
        assert getattr(metrics, name)(p, r) == same, name
    assert metrics.normalised_surface_dice(p, r, spacing, 1.0) == same
    for value in (metrics.hausdorff(p, r, spacing), metrics.average_surface_distance(p, r, spacing)):
        assert value == pytest.approx(diagonal)


def test_hausdorff_of_200_pairs_against_scikit_image():
    """scikit-image takes all voxels of both sets: the same number once it is given the surfaces, in voxels."""
    from skimage.metrics import hausdorff_distance

    for p, r in PAIRS:
        surfaces = segmentation._surface(p), segmentation._surface(r)
        assert metrics.hausdorff(p, r, (1, 1, 1), 100) == pytest.approx(hausdorff_distance(*surfaces))


@pytest.mark.filterwarnings("ignore:the prediction of class")
def test_where_monai_differs_with_empty_masks():
    """MONAI leaves empty cases undefined or infinite; here they have a value."""
    from monai.metrics import compute_dice, compute_hausdorff_distance

    empty, one = torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)
    one[..., 1, 1, 1] = 1
    assert np.isnan(compute_dice(empty, empty).item())
    nothing, something = np.zeros((4, 4, 4), bool), one[0, 0].numpy().astype(bool)
    assert metrics.dice(nothing, nothing) == 1
    assert not np.isfinite(compute_hausdorff_distance(empty, one, include_background=True).item())
    assert metrics.hausdorff(nothing, something, (1, 1, 1)) == pytest.approx(np.sqrt(48))


def test_one_voxel_and_its_shift_on_an_anisotropic_grid():
    a, b = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    a[0, 2, 2] = True
    b[1, 2, 2] = True
    spacing = (4.0, 1.0, 1.0)
    assert metrics.dice(a, b) == metrics.iou(a, b) == metrics.sensitivity(a, b) == metrics.precision(a, b) == 0
    assert metrics.hausdorff(a, b, spacing) == metrics.average_surface_distance(a, b, spacing) == 4
    assert metrics.normalised_surface_dice(a, b, spacing, 3.9) == 0
    assert metrics.normalised_surface_dice(a, b, spacing, 4.0) == 1
    assert metrics.relative_volume_error(a, b) == 0


def test_areas_of_surface_elements_are_what_the_published_surface_dice_adds():
    """A cube of 4 x 4 x 4 voxels and one longer by two: all faces agree but the moved end and the two new rings.

    The cube has 96 faces, of which 80 lie on the slab's surface; the slab 128, of which 80 on the cube's: 160 / 224.
    Counted in surface voxels, 56 and 80, it is a few hundredths off.
    """
    cube, slab = np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12), bool)
    cube[2:6, 2:6, 2:6] = True
    slab[2:8, 2:6, 2:6] = True
    by_area = (80 + 80) / (96 + 128)
    by_voxels = metrics.normalised_surface_dice(cube, slab, (1, 1, 1), 0.0)
    shared = (segmentation._surface(cube) & segmentation._surface(slab)).sum()
    assert by_voxels == pytest.approx(2 * shared / (56 + 80))
    assert abs(by_voxels - by_area) < 0.1


def test_brier_and_classes_against_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(4, 40))
        truth = rng.uniform(size=n) < 0.4
        truth[:2] = (True, False)
        score = np.round(rng.uniform(size=n), 1)  # many ties
        assert brier(score, truth) == pytest.approx(brier_score_loss(truth, score))
        assert auroc(score, truth) == pytest.approx(roc_auc_score(truth, score))
        classes, guess = rng.integers(0, 3, n), rng.integers(0, 3, n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a predicted class that does not occur
            theirs = balanced_accuracy_score(classes, guess)
        assert balanced_accuracy(guess, classes) == pytest.approx(theirs)
