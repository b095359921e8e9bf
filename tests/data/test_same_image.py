from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume, check_study, read_image
from anymri.data.raw.study import prepare_raw
from anymri.data.same_image import refuse_same, same_content
from anymri.phantom import PhantomSettings, make_subject
from anymri.types import UserError

SHAPE = (20, 24, 22)
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def brain(seed: int = 0) -> np.ndarray:
    """An ellipsoid of two tissues with noise, exactly 0 outside."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    radius = np.sqrt((places**2).sum(0))
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    return np.where(radius < 0.8, 300 + 200 * (radius < 0.5) + 10 * noise, 0).astype(np.float32)


def volume(array: np.ndarray, affine: np.ndarray = AFFINE, name: str = "a.nii") -> Volume:
    array = np.ascontiguousarray(array, np.float32)
    depth, height, width = array.shape
    return Volume(array, Geometry(affine, (width, height, depth)), name)


def moved(affine: np.ndarray, voxels_dhw: tuple[int, int, int]) -> np.ndarray:
    """The affine of a grid that starts so many voxels further along D, H, W."""
    grid = Geometry(affine, SHAPE[::-1])
    affine_dhw = grid.affine_dhw
    shift = affine_dhw[:3, :3] @ np.array(voxels_dhw)
    result = affine.copy()
    result[:3, 3] += shift
    return result


def cropped_grid(start: tuple[int, int, int], stop: tuple[int, int, int]) -> Volume:
    """Part of the image, on the part of the grid that belongs to it; made by storing axes R, A, S."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return volume(brain()[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))], moved(affine, start), "b.nii")


RAS = np.diag([2.0, 2.0, 3.0, 1.0])
X = brain()
COPIES = {
    "a copy": X.copy(),
    "scaled": 3.7 * X,
    "scaled and shifted": 0.2 * X + 55,
    "scaled inside the brain alone": np.where(X > 0, 2 * X - 100, 0),
    "inverted": 1000 - X,
    "rounded": np.rint(X),
    "8 bits": np.rint(X / X.max() * 255),
    "8 bits, the brightest cut off": np.rint(np.clip(X / np.quantile(X, 0.99), 0, 1) * 255),
    "half precision": X.astype(np.float16),
    "with tiny noise": X + np.random.default_rng(5).normal(0, 0.5, SHAPE) * (X > 0),
    "z-scores": np.where(X > 0, (X - X[X > 0].mean()) / X[X > 0].std(), 0),
    "cropped to the brain and padded in a corner": np.pad(X[2:18, 3:21, 3:19], ((0, 4), (0, 6), (0, 6))),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_an_image_is_noticed(name: str) -> None:
    one, other = volume(X), volume(COPIES[name], name="b.nii")
    assert same_content(one, other)
    assert same_content(other, one)
    with pytest.raises(UserError, match=r"b.nii: given as t1c is the same image.* as a.nii, given as t1; give every"):
        check_study({"t1": one, "t1c": other})


def test_what_was_done_to_the_copy_is_said() -> None:
    assert same_content(volume(X), volume(X)) == "the same image as"
    assert same_content(volume(X), volume(2 * X + 9)) == "the same image, rescaled, as"
    assert same_content(volume(X), volume(X * 0.5)) == "the same image, rescaled, as"
    assert same_content(volume(X), volume(np.rint(X))) == "the same image as"
    padded = volume(np.pad(X, 3))
    assert same_content(volume(X), padded) == "the same image, cropped or padded, as"
    assert same_content(volume(X), volume(np.pad(2 * X, 3))) == "the same image, cropped or padded, rescaled, as"


@pytest.mark.parametrize(
    ("start", "stop"),
    [((2, 0, 0), (20, 24, 22)), ((0, 3, 4), (17, 24, 22)), ((4, 5, 5), (14, 24, 22)), ((0, 0, 0), (20, 24, 21))],
)
def test_a_part_of_the_grid_is_compared_where_it_overlaps(start: tuple, stop: tuple) -> None:
    whole, part = volume(X, RAS), cropped_grid(start, stop)
    assert "cropped" in same_content(whole, part)
    assert "cropped" in same_content(part, whole)
    with pytest.raises(UserError, match="cropped"):
        refuse_same({"t1": whole, "t2": part})
    other = part._replace(array=brain(seed=1)[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))])
    assert same_content(whole, other) is None


OTHERS = {
    "other noise": brain(seed=1),
    "another contrast": np.where(X > 0, np.where(X > 400, 200, 450) + brain(seed=2) % 50, 0),
    "a region that differs": X + 200 * (np.indices(SHAPE).sum(0) < 26) * (X > 0),
    "mirrored": X[::-1],
    "noise of a tenth of the contrast": X + np.random.default_rng(3).normal(0, 10, SHAPE) * (X > 0),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_another_image_is_not_a_copy(name: str) -> None:
    assert same_content(volume(X), volume(OTHERS[name], name="b.nii")) is None
    check_study({"t1": volume(X), "t1c": volume(OTHERS[name], name="b.nii")})


def test_a_raw_study_with_one_image_twice_is_refused_before_it_is_aligned() -> None:
    whole, part = volume(X, RAS), cropped_grid((0, 3, 4), (17, 24, 22))
    with pytest.raises(UserError, match=r"b.nii: given as flair is the same image, cropped, as a.nii, given as t1"):
        prepare_raw({"t1": whole, "flair": part})


def test_equal_arrays_far_apart_are_still_one_image() -> None:
    far = moved(AFFINE, (50, 0, 0))
    assert same_content(volume(X), volume(X, far)) == "the same image as"


@pytest.mark.parametrize("pathology", ["none", "glioma", "wmh"])
def test_sequences_of_a_phantom_are_different_images(pathology: str) -> None:
    settings = PhantomSettings(
        spacing_mm=5.0, pathology=pathology, modalities=("t1", "t1c", "t2", "flair", "pd", "mprage")
    )
    for index in range(3):
        images = make_subject(11, index, settings).images
        for one, other in combinations(images, 2):
            assert same_content(volume(images[one]), volume(images[other])) is None, (index, one, other)


@pytest.mark.slow
def test_sequences_of_real_cases_are_different_images(shared_data: Path) -> None:
    for case in sorted(path for path in (shared_data / "brats2021").iterdir() if path.is_dir())[::6]:
        volumes = {code: read_image(case / f"{code}.nii.gz") for code in ("t1", "t1c", "t2", "flair")}
        check_study(volumes)
        t1 = volumes["t1"]
        cast = t1._replace(array=np.rint(t1.array / t1.array.max() * 255), source="cast")
        with pytest.raises(UserError, match="the same image"):
            check_study({"t1": t1, "t1c": cast})
