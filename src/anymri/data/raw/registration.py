"""Rigid alignment of the sequences to each other, and of one of them to the average brain (SimpleITK).

Everything runs on grids of some millimetres along the world's axes, with one thread and every voxel as a sample, so
that the same images give the same matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.raw.bias import foreground
from anymri.data.raw.grids import Matrix, one_thread, sample, upright_grid, world_box
from anymri.data.raw.template import BRAIN_CENTRE_MM, load_template

__all__ = [
    "HEAD_RANK",
    "SCALES",
    "Working",
    "fit_brain",
    "is_slab",
    "mutual_information",
    "register_rigid",
    "register_template",
    "rigid_part",
    "rough_match",
    "working",
]

#: Smallest and largest factor between the average brain and a person's, along any direction.
SCALES = (0.8, 1.25)
#: Typical size of a brain in the average's.
MEAN_SCALE = 0.92
#: Voxel size of the images that are registered, in mm.
WORKING_MM = 2.0
#: Rank from which a voxel of a `Working` is head.
HEAD_RANK = 0.0999
#: Between points in RAS and in SimpleITK's LPS.
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Top of the drawn scalp above the middle of the brain, in the average's mm.
_TOP_MM = 88.0
#: Thickness below which an image is a slab, not a head.
SLAB_MM = 100.0
#: Starts of the search: height of a slab's middle in the average head; nod of a head in degrees, shift in mm.
_SLAB_HEIGHTS_MM = (-40.0, -26.0, -12.0, 2.0, 16.0, 30.0, 44.0, 58.0)
_NODS, _SHIFTS_MM = (-15.0, 0.0, 15.0), (-18.0, 0.0, 18.0)


@dataclass(frozen=True)
class Working:
    """An image made small and upright for registration.

    Parameters
    ----------
    array : ndarray of float32, shape (D, H, W)
        Ranks: 0 air, 0.1 to 1 head.
    geometry : Geometry
    slab : bool, default=False
        See `is_slab`.
    """

    array: NDArray[np.float32]
    geometry: Geometry
    slab: bool = False


def working(array: NDArray[np.float32], geometry: Geometry, spacing_mm: float = WORKING_MM) -> Working:
    """Small upright copy of an image."""
    low, high = world_box(geometry)
    grid = upright_grid(low, high, spacing_mm)
    small = np.maximum(sample(array, geometry, grid), 0)
    return Working(_equalise(small, foreground(small)), grid, is_slab(geometry))


def _equalise(image: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Ranks of the head's grey values, 0.1 to 1, so that bright fat does not take most of the bins; air below."""
    if not inside.any():
        return image
    points = np.percentile(image[inside], np.linspace(0, 100, 65))
    points = np.maximum.accumulate(points + np.arange(65) * 1e-6 * points[-1])
    return np.interp(image, [0.0, *points], [0.0, *np.linspace(0.1, 1, 65)]).astype(np.float32)


def register_rigid(fixed: Working, moving: Working) -> tuple[Matrix, dict[str, float]]:
    """Rigid motion between two sequences of one head.

    Parameters
    ----------
    fixed, moving : Working

    Returns
    -------
    fixed_to_moving : ndarray of float64, shape (4, 4)
    facts : dict
        ``mutual_information_before`` and ``_after`` (nats, over the fixed head), ``rotation_degrees``,
        ``translation_mm`` (of the middle of the fixed head).

    Notes
    -----
    Mattes mutual information on 4 then 2 mm, from the scanner's own positions and from matched centres of mass; the
    better is kept, and none where the scanner's positions were better than both.
    """
    import SimpleITK as sitk

    inside = fixed.array >= HEAD_RANK
    centre = _centre(fixed)
    before = mutual_information(fixed, moving, np.eye(4))
    best: Matrix = np.eye(4)
    score = before
    for shift in (np.zeros(3), _centre(moving) - centre):
        start = sitk.Euler3DTransform()
        start.SetCenter((_FLIP[:3, :3] @ centre).tolist())
        start.SetTranslation((_FLIP[:3, :3] @ shift).tolist())
        for shrink, blur in ((2, 2.0), (1, 0.0)):
            _optimise(start, fixed, moving, inside, shrink=shrink, blur_mm=blur, step_mm=2.0 / (3 - shrink))
        found = _matrix(start)
        after = mutual_information(fixed, moving, found)
        if after > score:
            best, score = found, after
    facts = {
        "mutual_information_before": round(before, 4),
        "mutual_information_after": round(score, 4),
        "rotation_degrees": round(_angle(best), 3),
        "translation_mm": round(float(np.linalg.norm(best[:3, :3] @ centre + best[:3, 3] - centre)), 3),
    }
    return best, facts


def register_template(image: Working) -> tuple[Matrix, dict[str, Any]]:
    """Affine map from the average brain to a head.

    Parameters
    ----------
    image : Working
        Any sequence.

    Returns
    -------
    mni_to_image : ndarray of float64, shape (4, 4)
    facts : dict
        ``scales`` (three, within `SCALES`), ``rotation_degrees``, ``mutual_information``.

    Notes
    -----
    Nine starts at 8 mm with rotation, shift and one scale, compared with the drawn head; the best goes on at 4 mm with
    `MEAN_SCALE`, since a brain matched to a scalp is too large, and with all twelve parameters at 4 and 2 mm, compared
    with the brain and the inner skull. What leaves `SCALES` is not taken. An image thinner than `SLAB_MM` says too
    little of the head's shape: it is searched for in the average head, turned and shifted with `MEAN_SCALE` only.
    """
    import SimpleITK as sitk

    if image.slab:
        return _register_slab(image)
    template = load_template(2)
    fixed = Working(template.head, template.geometry)
    similar = _start_whole(image, _NODS)[1]
    similar.SetScale(MEAN_SCALE)
    _optimise(similar, fixed, image, template.near, shrink=2, blur_mm=2.0, step_mm=2.0, keep_scale=True)
    affine = sitk.AffineTransform(3)
    affine.SetCenter(similar.GetCenter())
    affine.SetMatrix(similar.GetMatrix())
    affine.SetTranslation(similar.GetTranslation())
    found, kept = _matrix(similar), "one scale"
    for shrink, step_mm in ((2, 1.0), (1, 0.5)):
        value = _optimise(affine, fixed, image, template.near, shrink=shrink, blur_mm=1.0, step_mm=step_mm)
        scales = np.linalg.svd(_matrix(affine)[:3, :3], compute_uv=False)
        if scales.min() >= SCALES[0] and scales.max() <= SCALES[1]:
            found, kept = _matrix(affine), "affine"
    facts = {
        "scales": np.round(np.linalg.svd(found[:3, :3], compute_uv=False), 4).tolist(),
        "rotation_degrees": round(_angle(rigid_part(found)), 3),
        "mutual_information": _nats(value),
        "kind": kept,
    }
    return found, facts


def rough_match(image: Working) -> float:
    """How well the best of a few coarse starts matches the average head: mutual information in nats.

    Parameters
    ----------
    image : Working
    """
    start = _start_slab if image.slab else _start_whole
    return -start(image, (0.0,))[0]


def is_slab(geometry: Geometry) -> bool:
    """Whether an image is too thin to show the shape of a head."""
    return min(size * step for size, step in zip(geometry.shape_dhw, geometry.spacing_mm, strict=True)) < SLAB_MM


@one_thread()
def fit_brain(found: Working, seen: NDArray[np.bool_], mni_to_found: Matrix) -> Matrix:
    """Fit the shape of the average brain to a brain that was found, from a map that is nearly right.

    Parameters
    ----------
    found : Working
        Probability of brain.
    seen : ndarray of bool
        Where the image reaches; the rest is not compared.
    mni_to_found : ndarray of float64, shape (4, 4)

    Returns
    -------
    ndarray of float64, shape (4, 4)
        Better map; the one given where the fit leaves `SCALES`.
    """
    import SimpleITK as sitk

    template = load_template(2)
    affine = sitk.AffineTransform(3)
    lps = _FLIP @ mni_to_found @ _FLIP
    centre = _FLIP[:3, :3] @ np.array(BRAIN_CENTRE_MM)
    affine.SetCenter(centre.tolist())
    affine.SetMatrix(lps[:3, :3].ravel().tolist())
    affine.SetTranslation((lps[:3, :3] @ centre + lps[:3, 3] - centre).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.02, 40, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(affine, inPlace=True)
    method.SetMetricFixedMask(_mask(template.compared, template.geometry, shrink=2))
    method.SetMetricMovingMask(_mask(seen, found.geometry, shrink=1))
    still = sitk.Shrink(_to_itk(Working(template.brain, template.geometry), 2.0), [2] * 3)
    try:
        method.Execute(still, _to_itk(found, 2.0))
    except RuntimeError:
        return mni_to_found
    fitted = _matrix(affine)
    scales = np.linalg.svd(fitted[:3, :3], compute_uv=False)
    return fitted if scales.min() >= SCALES[0] and scales.max() <= SCALES[1] else mni_to_found


def rigid_part(matrix: Matrix, centre_mm: tuple[float, float, float] = BRAIN_CENTRE_MM) -> Matrix:
    """The rigid motion nearest to an affine map that moves one point equally.

    Parameters
    ----------
    matrix : ndarray of float64, shape (4, 4)
    centre_mm : tuple of float
        That point.
    """
    left, _, right = np.linalg.svd(matrix[:3, :3])
    rigid = np.eye(4)
    rigid[:3, :3] = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    centre = np.asarray(centre_mm)
    rigid[:3, 3] = matrix[:3, :3] @ centre + matrix[:3, 3] - rigid[:3, :3] @ centre
    return rigid


def mutual_information(fixed: Working, moving: Working, fixed_to_moving: Matrix, bins: int = 32) -> float:
    """Mutual information of two images in nats, over the head of the fixed one where both reach.

    Parameters
    ----------
    fixed, moving : Working
    fixed_to_moving : ndarray of float64, shape (4, 4)
    bins : int, default=32
    """
    moved = sample(moving.array, moving.geometry, fixed.geometry, fixed_to_moving, smooth=False, outside=-1)
    inside = (fixed.array >= HEAD_RANK) & (moved >= 0)
    if inside.sum() < 100:
        return 0.0
    joint, _, _ = np.histogram2d(fixed.array[inside], moved[inside], bins=bins)
    share = joint / joint.sum()
    product = share.sum(1, keepdims=True) * share.sum(0, keepdims=True)
    filled = share > 0
    return float((share[filled] * np.log(share[filled] / product[filled])).sum())


def _register_slab(image: Working) -> tuple[Matrix, dict[str, Any]]:
    """Place of a slab in the average head: the slab stays still, so that all of it counts wherever it is put."""
    template = load_template(2)
    moving = Working(template.head, template.geometry)
    inside = image.array >= HEAD_RANK
    start = _start_slab(image, _NODS)[1]
    value = _optimise(start, image, moving, inside, shrink=1, blur_mm=1.0, step_mm=1.0, keep_scale=True)
    found = np.linalg.inv(_matrix(start))
    facts = {
        "scales": [MEAN_SCALE] * 3,
        "rotation_degrees": round(_angle(rigid_part(found)), 3),
        "mutual_information": _nats(value),
        "kind": "slab: the average scale",
    }
    return found, facts


def _start_slab(image: Working, nods: tuple[float, ...]) -> tuple[float, Any]:
    """Metric and transform (slab to template) of the best coarse start of a slab."""
    import SimpleITK as sitk

    template = load_template(2)
    moving = Working(template.head, template.geometry)
    inside = image.array >= HEAD_RANK
    centre = _centre(image)
    best: tuple[float, Any] = (np.inf, None)
    for height_mm in _SLAB_HEIGHTS_MM:
        for nod in nods:
            transform = sitk.Similarity3DTransform()
            transform.SetCenter((_FLIP[:3, :3] @ centre).tolist())
            transform.SetScale(1 / MEAN_SCALE)
            transform.SetRotation((1.0, 0.0, 0.0), float(np.radians(nod)))
            goal = np.array([BRAIN_CENTRE_MM[0], BRAIN_CENTRE_MM[1], height_mm])
            transform.SetTranslation((_FLIP[:3, :3] @ (goal - centre)).tolist())
            value = _optimise(transform, image, moving, inside, shrink=3, blur_mm=2.0, step_mm=2.0, keep_scale=True)
            if value < best[0] or best[1] is None:
                best = (value, transform)
    return best


def _start_whole(image: Working, nods: tuple[float, ...]) -> tuple[float, Any]:
    """Metric and transform (template to head) of the best coarse start of a whole head."""
    template = load_template(2)
    fixed = Working(template.head, template.geometry)
    best: tuple[float, Any] = (np.inf, None)
    for transform in _starts(image, nods):
        value = _optimise(transform, fixed, image, template.compared, shrink=4, blur_mm=3.0, step_mm=4.0)
        if value < best[0] or best[1] is None:
            best = (value, transform)
    return best


def _starts(image: Working, nods: tuple[float, ...]) -> list[Any]:
    """Similarity transforms from the template to the head, by the top of the head and the middle of what is below."""
    import SimpleITK as sitk

    inside = image.array >= HEAD_RANK
    depth = inside.mean(axis=(1, 2))
    rows = np.flatnonzero(depth > 0.1 * depth.max())
    spacing = image.geometry.spacing_mm[0]
    first = max(0, int(rows[-1] - 120 / spacing))
    below = inside.copy()
    below[:first] = False
    index = np.array([places.mean() for places in np.nonzero(below)])
    index[0] = rows[-1] - MEAN_SCALE * _TOP_MM / spacing
    goal = image.geometry.affine_dhw[:3, :3] @ index + image.geometry.affine_dhw[:3, 3]
    starts = []
    for shift in _SHIFTS_MM:
        for nod in nods:
            transform = sitk.Similarity3DTransform()
            transform.SetCenter((_FLIP[:3, :3] @ np.array(BRAIN_CENTRE_MM)).tolist())
            transform.SetScale(MEAN_SCALE)
            transform.SetRotation((1.0, 0.0, 0.0), float(np.radians(nod)))
            move = goal + (0, 0, shift) - np.array(BRAIN_CENTRE_MM)
            transform.SetTranslation((_FLIP[:3, :3] @ move).tolist())
            starts.append(transform)
    return starts


@one_thread()
def _optimise(
    transform: Any,
    fixed: Working,
    moving: Working,
    inside: NDArray[np.bool_],
    *,
    shrink: int,
    blur_mm: float,
    step_mm: float,
    keep_scale: bool = False,
) -> float:
    """Improve a transform in place at one resolution; the metric at the end (negative mutual information)."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.01 * step_mm, 60, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    if keep_scale:  # the last parameter of a similarity
        method.SetOptimizerWeights([1.0] * 6 + [0.0])
    method.SetInitialTransform(transform, inPlace=True)
    still, moved = (_to_itk(part, blur_mm) for part in (fixed, moving))
    if shrink > 1:
        still = sitk.Shrink(still, [shrink] * 3)
    method.SetMetricFixedMask(_mask(inside, fixed.geometry, shrink=shrink))
    try:
        method.Execute(still, moved)
    except RuntimeError:  # the images do not overlap from this start
        return np.inf
    return float(method.GetMetricValue())


def _mask(inside: NDArray[np.bool_], geometry: Geometry, *, shrink: int) -> Any:
    """SimpleITK mask on an upright grid."""
    import SimpleITK as sitk

    region = _to_itk(Working(inside.astype(np.float32), geometry), 0.0)
    return sitk.Cast((sitk.Shrink(region, [shrink] * 3) if shrink > 1 else region) > 0.5, sitk.sitkUInt8)


def _to_itk(part: Working, blur_mm: float) -> Any:
    """SimpleITK image of an upright grid."""
    import SimpleITK as sitk
    from scipy import ndimage

    affine = part.geometry.affine_dhw
    spacing = part.geometry.spacing_mm
    array = part.array
    if blur_mm:
        array = ndimage.gaussian_filter(array, [blur_mm / size for size in spacing], truncate=3)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32))
    image.SetSpacing(spacing[::-1])
    image.SetOrigin((_FLIP[:3, :3] @ affine[:3, 3]).tolist())
    image.SetDirection(_FLIP[:3, :3].ravel().tolist())
    return image


def _matrix(transform: Any) -> Matrix:
    """World matrix (RAS) of a linear SimpleITK transform."""
    linear = np.eye(4)
    linear[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    linear[:3, 3] = centre + np.array(transform.GetTranslation()) - linear[:3, :3] @ centre
    return _FLIP @ linear @ _FLIP


def _centre(image: Working) -> NDArray[np.float64]:
    """World position of the middle of the head."""
    index = np.array([places.mean() for places in np.nonzero(image.array >= HEAD_RANK)])
    return image.geometry.affine_dhw[:3, :3] @ index + image.geometry.affine_dhw[:3, 3]


def _nats(value: float) -> float:
    """Mutual information from the metric; 0 where the images never met."""
    return round(-value, 4) if np.isfinite(value) else 0.0


def _angle(matrix: Matrix) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
