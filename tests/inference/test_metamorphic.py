"""Changes of a study that mean nothing: what is found stays the same, bit for bit where voxels keep their values."""

from __future__ import annotations

from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest
import torch

from anymri.inference.predict import predict_study
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts

SHAPE = (30, 36, 32)
#: Edge of a voxel; the network's are one and a half times as long.
EDGE_MM = 4.0
AFFINE = np.diag([-EDGE_MM, -EDGE_MM, EDGE_MM, 1.0])
Arrays = dict[str, np.ndarray]
Back = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def method():
    """A small network with fixed random weights, several windows to a brain."""
    torch.manual_seed(0)
    method = create("unet", preset="tiny", width=4, depth=2).eval()
    method.facts = TrainingFacts(spacing_mm=(6.0, 6.0, 6.0), window=(16, 16, 16))
    return method


def study() -> Arrays:
    """Two sequences with brains of their own, off the middle of the array."""
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in SHAPE), indexing="ij"))
    distance = (((grid - np.reshape((13, 17, 16), (3, 1, 1, 1))) / np.reshape((10, 13, 11), (3, 1, 1, 1))) ** 2).sum(0)
    random = np.random.default_rng(0)
    images = {code: np.where(distance < 1, random.integers(80, 160, SHAPE), 0) for code in ("t1", "flair")}
    images["flair"][:, :, :7] = 0
    return {code: array.astype(np.int16) for code, array in images.items()}


def find(method, arrays: Arrays, affine: np.ndarray = AFFINE) -> list[np.ndarray]:
    """Label map and every probability, on the stored voxels."""
    images = {code: nib.Nifti1Image(array, affine) for code, array in arrays.items()}
    result = predict_study(images, method, check_labels="off", precision="32")
    maps = [result.segmentation, result.uncertainty, *result.probability.values()]
    return [np.asarray(image.dataobj) for image in maps]


def pad(arrays: Arrays) -> tuple[Arrays, np.ndarray, Back]:
    """Empty space on all sides; the affine is not told, so the head also lies elsewhere."""
    padded = {code: np.pad(array, [(5, 0), (1, 3), (2, 1)]) for code, array in arrays.items()}
    return padded, AFFINE, lambda found: found[5:, 1:-3, 2:-1]


def crop(arrays: Arrays) -> tuple[Arrays, np.ndarray, Back]:
    inside = np.logical_or.reduce([array != 0 for array in arrays.values()])
    box = tuple(slice(int(places.min()), int(places.max()) + 1) for places in np.nonzero(inside))

    def back(found: np.ndarray) -> np.ndarray:
        whole = np.zeros(SHAPE, found.dtype)
        whole[box] = found
        return whole

    return {code: array[box] for code, array in arrays.items()}, AFFINE, back


def reorder(arrays: Arrays) -> tuple[Arrays, np.ndarray, Back]:
    """Axes in another order, one of them backwards, with the affine that says so."""
    step = np.diag([-1.0, 1, 1, 1])
    step[0, 3] = SHAPE[0] - 1
    changed = {code: array[::-1].transpose(1, 2, 0) for code, array in arrays.items()}
    return changed, (AFFINE @ step)[:, [1, 2, 0, 3]], lambda found: found.transpose(2, 0, 1)[::-1]


def retype(arrays: Arrays) -> tuple[Arrays, np.ndarray, Back]:
    """Double precision, NaN around the brain, sequences in the other order."""
    changed = {code: np.where(array == 0, np.nan, array.astype(float)) for code, array in reversed(arrays.items())}
    return changed, AFFINE, lambda found: found


@pytest.fixture(scope="module")
def unchanged(method):
    found = find(method, study())
    assert all(image[study()["t1"] != 0].std() > 0 for image in found), "else the test could not fail"
    return found


@pytest.mark.parametrize("change", [pad, crop, reorder, retype])
def test_the_same_voxels_give_the_same_result(method, unchanged, change):
    arrays, affine, back = change(study())
    for one, other in zip(unchanged, find(method, arrays, affine), strict=True):
        np.testing.assert_array_equal(back(other), one)
