"""Metrics against independent implementations, against their definition by hand, and in their empty cases."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.evaluation import metrics

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.9, 0.9), (1.0, 1.5, 2.0)]


def _random_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping blobs of random smoothness; some touch the border of the image."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(9, 18, size=3))
    smooth = gaussian_filter(rng.normal(size=shape), rng.uniform(0.6, 2.0))
    other = smooth + 0.5 * smooth.std() * gaussian_filter(rng.normal(size=shape), 1.0) / 0.2
    level = np.quantile(smooth, rng.uniform(0.5, 0.95))
    return smooth > level, other > level


PAIRS = [_random_pair(seed) for seed in range(30)]


def _brute_distances(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Surface distances by their definition: all pairs of surface voxels, six-neighbourhood written out."""

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        points = []
        for z, y, x in np.argwhere(padded):
            steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
            if not all(padded[z + dz, y + dy, x + dx] for dz, dy, dx in steps):
                points.append((z - 1, y - 1, x - 1))
        return np.array(points) * np.array(spacing)

    distance = np.linalg.norm(surface(a)[:, None] - surface(b)[None], axis=-1)
    return distance.min(axis=1), distance.min(axis=0)


# ------------------------------------------------------------------------------------------------------- overlap


@pytest.mark.parametrize("pair", range(30))
def test_overlap_metrics_equal_their_set_definitions(pair):
    prediction, reference = PAIRS[pair]
    p, r = set(map(tuple, np.argwhere(prediction))), set(map(tuple, np.argwhere(reference)))
    everything = prediction.size
    assert metrics.dice(prediction, reference) == pytest.approx(2 * len(p & r) / (len(p) + len(r)))
    assert metrics.iou(prediction, reference) == pytest.approx(len(p & r) / len(p | r))
    assert metrics.sensitivity(prediction, reference) == pytest.approx(len(p & r) / len(r))
    assert metrics.precision(prediction, reference) == pytest.approx(len(p & r) / len(p))
    assert metrics.specificity(prediction, reference) == pytest.approx(
        (everything - len(p | r)) / (everything - len(r))
    )
    assert metrics.relative_volume_error(prediction, reference) == pytest.approx((len(p) - len(r)) / len(r))


def test_dice_agrees_with_monai():
    import torch
    from monai.metrics import compute_dice

    for prediction, reference in PAIRS:
        expected = compute_dice(torch.tensor(prediction)[None, None], torch.tensor(reference)[None, None])
        assert metrics.dice(prediction, reference) == pytest.approx(expected.item(), abs=1e-6)


EMPTY, FULL = np.zeros((4, 5, 6), bool), np.ones((4, 5, 6), bool)


@pytest.mark.parametrize("name", ["dice", "iou", "sensitivity", "precision"])
def test_overlap_of_empty_masks(name):
    metric = getattr(metrics, name)
    assert metric(EMPTY, EMPTY) == 1
    assert metric(FULL, EMPTY) == 0
    assert metric(EMPTY, FULL) == 0
    assert metric(FULL, FULL) == 1


def test_specificity_and_volume_of_empty_masks():
    assert metrics.specificity(EMPTY, EMPTY) == 1
    assert metrics.specificity(FULL, EMPTY) == 0
    assert metrics.specificity(EMPTY, FULL) == 1
    assert metrics.relative_volume_error(EMPTY, EMPTY) == 0
    assert metrics.relative_volume_error(EMPTY, FULL) == -1
    assert np.isnan(metrics.relative_volume_error(FULL, EMPTY))
    assert metrics.volume_ml(FULL, (2.0, 2.0, 2.0)) == pytest.approx(120 * 8 / 1000)


def test_small_enhancing_predictions_are_emptied_by_volume_not_by_voxels():
    prediction, reference = np.zeros((10, 10, 10), bool), np.zeros((10, 10, 10), bool)
    prediction[:4, :4, :4] = True  # 64 voxels: 512 mm3 at 2 mm, 64 mm3 at 1 mm
    assert metrics.dice(prediction, reference) == 0
    assert metrics.dice_et_min500mm3(prediction, reference, (2, 2, 2)) == 0
    assert metrics.dice_et_min500mm3(prediction, reference, (1, 1, 1)) == 1
    assert metrics.dice_et_min500mm3(prediction, prediction, (1, 1, 1)) == 0
    assert metrics.dice_et_min500mm3(prediction, prediction, (2, 2, 2)) == 1


def test_exactly_half_a_millilitre_is_kept():
    prediction = np.zeros((10, 10, 10), bool)
    prediction[:5] = True
    assert metrics.dice_et_min500mm3(prediction, prediction, (1, 1, 1)) == 1


@pytest.mark.parametrize("name", ["dice", "iou", "sensitivity", "precision", "specificity", "relative_volume_error"])
def test_label_maps_and_other_shapes_are_refused(name):
    metric = getattr(metrics, name)
    with pytest.raises(ValueError, match="boolean"):
        metric(EMPTY.astype(np.uint8), EMPTY)
    with pytest.raises(ValueError, match="shape"):
        metric(EMPTY, EMPTY[:3])


# ------------------------------------------------------------------------------------------------------- surfaces


@pytest.mark.parametrize("spacing", SPACINGS)
def test_surface_metrics_equal_brute_force(spacing):
    for prediction, reference in PAIRS[:10]:
        to_r, to_p = _brute_distances(prediction, reference, spacing)
        both = np.concatenate([to_r, to_p])
        hd95 = max(np.percentile(to_r, 95), np.percentile(to_p, 95))
        assert metrics.hausdorff(prediction, reference, spacing) == pytest.approx(hd95)
        assert metrics.hausdorff(prediction, reference, spacing, percentile=100) == pytest.approx(both.max())
        assert metrics.average_surface_distance(prediction, reference, spacing) == pytest.approx(both.mean())
        share = (both <= 1.0).mean()
        assert metrics.normalised_surface_dice(prediction, reference, spacing, 1.0) == pytest.approx(share)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_surface_metrics_agree_with_monai(spacing):
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    for prediction, reference in PAIRS:
        p, r = (torch.tensor(mask)[None, None].float() for mask in (prediction, reference))
        hd95 = compute_hausdorff_distance(p, r, include_background=True, percentile=95, spacing=list(spacing)).item()
        assert metrics.hausdorff(prediction, reference, spacing) == pytest.approx(hd95, rel=1e-5)
        assd = compute_average_surface_distance(
            p, r, include_background=True, symmetric=True, spacing=list(spacing)
        ).item()
        assert metrics.average_surface_distance(prediction, reference, spacing) == pytest.approx(assd, rel=1e-5)
        nsd = compute_surface_dice(p, r, [1.0], include_background=True, spacing=list(spacing)).item()
        assert metrics.normalised_surface_dice(prediction, reference, spacing, 1.0) == pytest.approx(nsd, abs=1e-6)


def test_surface_metrics_of_empty_masks():
    diagonal = np.sqrt((4 * 3) ** 2 + 5**2 + 6**2)
    for metric in (metrics.hausdorff, metrics.average_surface_distance):
        assert metric(EMPTY, EMPTY, (3, 1, 1)) == 0
        assert metric(FULL, EMPTY, (3, 1, 1)) == pytest.approx(diagonal)
        assert metric(EMPTY, FULL, (3, 1, 1)) == pytest.approx(diagonal)
    assert metrics.normalised_surface_dice(EMPTY, EMPTY, (3, 1, 1), 1.0) == 1
    assert metrics.normalised_surface_dice(FULL, EMPTY, (3, 1, 1), 1.0) == 0
    assert metrics.hausdorff(
        np.zeros((240, 240, 155), bool), _single((240, 240, 155), (0, 0, 0)), (1, 1, 1)
    ) == pytest.approx(373.128664, abs=1e-4)


def _single(shape: tuple[int, ...], place: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


def test_single_voxels_in_opposite_corners_of_an_anisotropic_image():
    a, b = _single((5, 6, 7), (0, 0, 0)), _single((5, 6, 7), (4, 5, 6))
    expected = np.sqrt((4 * 3) ** 2 + 5**2 + (6 * 0.5) ** 2)
    for percentile in (50, 95, 100):
        assert metrics.hausdorff(a, b, (3, 1, 0.5), percentile) == pytest.approx(expected)
    assert metrics.hausdorff(a, a, (3, 1, 0.5)) == 0
    assert metrics.average_surface_distance(a, b, (3, 1, 0.5)) == pytest.approx(expected)


def test_a_mask_that_fills_the_image_has_its_surface_on_the_border():
    inner = np.zeros((7, 7, 7), bool)
    inner[3, 3, 3] = True
    # Border voxels are 3 to sqrt(27) away from the centre; were the border no surface, the full mask had none.
    assert metrics.hausdorff(np.ones((7, 7, 7), bool), inner, (1, 1, 1), 100) == pytest.approx(np.sqrt(27))


def test_shifted_slab_touching_the_border():
    a, b = np.zeros((10, 8, 8), bool), np.zeros((10, 8, 8), bool)
    a[:4], b[:6] = True, True
    assert metrics.hausdorff(a, b, (2, 1, 1), 100) == pytest.approx(4)
    assert metrics.normalised_surface_dice(a, b, (2, 1, 1), 4.0) == 1
    assert metrics.normalised_surface_dice(a, b, (2, 1, 1), 0.0) < 1


def test_bad_spacing_is_refused():
    for spacing in [(1, 1), (1, 1, 0), (1, 1, float("nan"))]:
        with pytest.raises(ValueError, match="spacing_mm"):
            metrics.hausdorff(FULL, FULL, spacing)
    with pytest.raises(ValueError, match="tolerance_mm"):
        metrics.normalised_surface_dice(FULL, FULL, (1, 1, 1), -1.0)


# ------------------------------------------------------------------------------------------------------ synthesis


def _images(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    inside = np.zeros((18, 20, 16), bool)
    inside[3:15, 2:20, 4:13] = True
    reference = np.where(inside, gaussian_filter(rng.normal(size=inside.shape), 1.5) * 5, 0)
    image = np.where(inside, reference + 0.3 * rng.normal(size=inside.shape), 0)
    return image.astype(np.float32), reference.astype(np.float32), inside


@pytest.mark.parametrize("seed", range(5))
def test_psnr_and_ssim_agree_with_scikit_image(seed):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    image, reference, inside = _images(seed)
    width = metrics.data_range(reference, inside)
    x, y = image[inside].astype(float), reference[inside].astype(float)
    assert metrics.psnr(image, reference, inside, width) == pytest.approx(
        peak_signal_noise_ratio(y, x, data_range=width)
    )
    _, full = structural_similarity(reference.astype(float), image.astype(float), data_range=width, full=True)
    assert metrics.ssim(image, reference, inside, width) == pytest.approx(full[inside].mean(), abs=1e-9)
    assert 0 < metrics.ssim(image, reference, inside, width) < 1


def test_errors_by_hand():
    inside = np.array([[[True, True, False, True]]])
    reference, image = np.array([[[1.0, 2.0, 9.0, -2.0]]]), np.array([[[1.0, 4.0, 0.0, -1.0]]])
    assert metrics.mae(image, reference, inside) == pytest.approx(1.0)
    assert metrics.nmse(image, reference, inside) == pytest.approx((4 + 1) / 9)
    assert metrics.psnr(image, reference, inside, 10.0) == pytest.approx(10 * np.log10(100 / (5 / 3)))
    low, high = np.percentile([1.0, 2.0, -2.0], (0.1, 99.9))
    assert metrics.data_range(reference, inside) == pytest.approx(high - low)


def test_what_lies_outside_the_brain_does_not_count():
    image, reference, inside = _images(0)
    noisy = np.where(inside, image, 100.0)
    width = metrics.data_range(reference, inside)
    for metric in (metrics.psnr, metrics.ssim):
        assert metric(noisy, reference, inside, width) == metric(image, reference, inside, width)
    for metric in (metrics.mae, metrics.nmse):
        assert metric(noisy, reference, inside) == metric(image, reference, inside)


def test_synthesis_metrics_of_empty_and_equal_images():
    _, reference, inside = _images(0)
    nothing = np.zeros_like(inside)
    assert metrics.psnr(reference, reference, inside, 1.0) == float("inf")
    assert metrics.ssim(reference, reference, inside, 1.0) == pytest.approx(1)
    assert metrics.nmse(np.zeros_like(reference), reference, inside) == pytest.approx(1)
    assert np.isnan(metrics.nmse(reference, np.zeros_like(reference), inside))
    assert np.isnan(metrics.data_range(reference, nothing))
    for metric in (metrics.psnr, metrics.ssim):
        assert np.isnan(metric(reference, reference, nothing, 1.0))
    assert np.isnan(metrics.mae(reference, reference, nothing))


def test_image_shapes_must_agree():
    _, reference, inside = _images(0)
    with pytest.raises(ValueError, match="shape"):
        metrics.mae(reference[:3], reference, inside)
    with pytest.raises(ValueError, match="boolean"):
        metrics.ssim(reference, reference, inside.astype(int), 1.0)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_trees_of_thin_surfaces_give_the_distance_transform(spacing, monkeypatch):
    """Two balls in a wide box, which take the tree, against the transform of the whole box."""
    from anymri.evaluation.metrics import segmentation

    grid = np.indices((40, 44, 48))
    balls = [sum((grid[i] - middle[i]) ** 2 for i in range(3)) < 25 for middle in ((8, 9, 10), (30, 33, 35))]
    assert sum(map(np.count_nonzero, balls)) * segmentation.TREE_VOXELS < balls[0].size / 2
    calls, nearest = [], segmentation._nearest
    monkeypatch.setattr(segmentation, "_nearest", lambda *given: calls.append(1) or nearest(*given))
    by_tree = segmentation._surface_distances(*balls, spacing)
    assert calls
    monkeypatch.setattr(segmentation, "TREE_VOXELS", balls[0].size)
    for tree, transform in zip(by_tree, segmentation._surface_distances(*balls, spacing), strict=True):
        np.testing.assert_allclose(tree, transform, rtol=1e-12)
    assert len(calls) == 1


def test_the_box_of_a_mask_has_its_margin_within_the_image():
    mask = np.zeros((9, 8, 7), bool)
    mask[1:3, 4, 6] = True
    mask[5, 2, 3] = True
    assert metrics.bounding_box(mask) == (slice(1, 6), slice(2, 5), slice(3, 7))
    assert metrics.bounding_box(mask, 3) == (slice(0, 9), slice(0, 8), slice(0, 7))
