"""Whole heads, and what is no brain at all, are told from stripped brains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raw_heads import head

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume, read_image
from anymri.data.raw.stripped import SKULL_SHARE, check_stripped, filled_ml, skull_share
from anymri.types import UserError

CODES = ("t1", "t2", "flair")


@pytest.fixture(scope="module")
def heads() -> dict[str, tuple[Volume, np.ndarray]]:
    """Drawn heads and their brains, by sequence."""
    return {code: head(code, (3.0, 3.0, 3.0), seed=number) for number, code in enumerate(CODES)}


@pytest.mark.parametrize("code", CODES)
def test_a_head_shows_its_skull_whatever_was_done_to_its_air(heads, code):
    volume, _ = heads[code]
    air = volume.array < 0.12 * np.percentile(volume.array, 99.5)
    assert skull_share(volume.array, volume.geometry) > 0.6
    assert skull_share(np.where(air, 0, volume.array), volume.geometry) > 0.6
    places = np.argwhere(~air)
    tight = tuple(slice(low, high + 1) for low, high in zip(places.min(0), places.max(0), strict=True))
    assert skull_share(volume.array[tight], like(volume, volume.array[tight])) > SKULL_SHARE
    slab = volume.array[20:40]
    assert skull_share(slab, like(volume, slab)) > SKULL_SHARE


def like(volume: Volume, array: np.ndarray) -> Geometry:
    return Geometry(volume.geometry.affine, array.shape[::-1])


@pytest.mark.parametrize("code", CODES)
def test_a_brain_shows_none(heads, code):
    volume, brain = heads[code]
    array = np.where(brain, volume.array, 0)
    assert skull_share(array, volume.geometry) < 0.05
    check_stripped({code: volume._replace(array=array)})


def test_a_head_is_refused_by_name_with_the_remedy(heads):
    volume, brain = heads["flair"]
    zeroed = np.where(volume.array < 60, 0, volume.array)
    stripped = heads["t2"][0]._replace(array=np.where(heads["t2"][1], heads["t2"][0].array, 0))
    with pytest.raises(UserError, match=r"^flair\.nii\.gz: shows a whole head.*--raw"):
        check_stripped({"t2": stripped, "flair": volume._replace(array=zeroed)})
    assert brain.any()


@pytest.mark.parametrize(("edge_mm", "words"), [(0.5, "too little for a brain"), (6.0, "more than any brain")])
def test_no_brain_has_this_size(edge_mm, words):
    shape = (30, 36, 28)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    array = np.where((grid**2).sum(0) < 0.9, 100 + 10 * np.random.default_rng(0).random(shape), 0).astype(np.float32)
    volume = Volume(array, Geometry(np.diag([edge_mm] * 3 + [1.0]), shape[::-1]), "x.nii.gz")
    size_ml = float((array != 0).sum()) * edge_mm**3 / 1000
    assert filled_ml(array != 0, volume.geometry) == pytest.approx(size_ml)
    with pytest.raises(UserError, match=words):
        check_stripped({"t1": volume})


def test_abdomen_and_ct_are_not_judged():
    array = np.ones((8, 8, 8), np.float32)
    check_stripped({code: Volume(array, Geometry(np.eye(4), (8, 8, 8)), "x") for code in ("t1_in", "ct")})


def test_real_heads_are_refused_and_real_brains_are_not(shared_data: Path):
    for path in sorted((shared_data / "openms_raw").glob("*/flair.nii.gz")):
        with pytest.raises(UserError, match="--raw"):
            check_stripped({"flair": read_image(path)})
    for case in ("BraTS2021_00000", "BraTS2021_01482"):
        check_stripped({"t1": read_image(shared_data / "brats2021" / case / "t1.nii.gz")})
    check_stripped({"t1": read_image(shared_data / "openms" / "patient19" / "t1.nii.gz")})
