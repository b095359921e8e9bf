"""Metamorphic: changes of a study that mean nothing change nothing of what `predict` says.

A change is drawn by hypothesis, of several parts at once: the order in which a file stores its axes, empty space around
the head or none, the type and the unit of its values, the format of the file, names, and the order of the sequences.
The voxels keep their values, so the label map has to stay the same, voxel by voxel, on a tiny network with random
weights. `tools/metamorphic.py` asks the same of the bundled model.
"""

from __future__ import annotations

import itertools
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, configuration, example, given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

from anymri.data.formats import write_dicom, write_foreign
from anymri.data.geometry import Geometry, from_native
from anymri.inference.predict import Model, predict_study
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts

#: Native size (i, j, k) and edge in mm of the study; the head fills all of it but a margin.
SHAPE, EDGE_MM, MARGIN = (22, 26, 20), (5.0, 5.0, 6.0), 2
AFFINE = np.array([[-EDGE_MM[0], 0, 0, 50.0], [0, -EDGE_MM[1], 0, 60.0], [0, 0, EDGE_MM[2], -40.0], [0, 0, 0, 1]])
FORMATS = ("memory", "nii", "nii.gz", "mha", "nrrd", "dicom")


class Change(NamedTuple):
    """What is done to every sequence of a study, in this order.

    Attributes
    ----------
    before, after : tuple of int
        Layers of zeros put on at the begin and end of each axis; negative = layers of zeros taken away.
    axes : tuple of int
        Order of the axes.
    flips : tuple of bool
    dtype : str
    factor : float
        Power of two, so small that whole numbers of 16 bits stay such; multiplies every value.
    format : str
    names : str
        Start of every file's name.
    reverse : bool
        Whether the sequences are given in reverse order.
    """

    before: tuple[int, int, int] = (0, 0, 0)
    after: tuple[int, int, int] = (0, 0, 0)
    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    dtype: str = "int16"
    factor: float = 1.0
    format: str = "nii.gz"
    names: str = ""
    reverse: bool = False


LAYERS = st.tuples(*[st.integers(-MARGIN, 9)] * 3)
CHANGES = st.builds(
    Change, LAYERS, LAYERS, st.sampled_from(list(itertools.permutations(range(3)))), st.tuples(*[st.booleans()] * 3),
    st.sampled_from(["int16", "uint16", "int32", "float32", "float64"]), st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from(FORMATS), st.sampled_from(["", "x ", "ü-", "case.v2.", "'"]), st.booleans(),
)  # fmt: skip


@lru_cache(1)
def study() -> dict[str, np.ndarray]:
    """Two sequences of a head with a lesion: smooth tissue, a bright spot off the middle, zeros around, (i, j, k)."""
    random = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size - 2 * MARGIN) for size in SHAPE), indexing="ij"))
    brain = (grid**2).sum(0) < 0.98
    spot = ((grid - np.reshape([0.35, -0.25, 0.2], (3, 1, 1, 1))) ** 2).sum(0) < 0.1
    made = {}
    for code, bright in (("t1", -80), ("flair", 240)):
        wave = np.sin(3 * grid[0] + 1) + np.cos(4 * grid[1]) + np.sin(5 * grid[2])
        values = 400 + 60 * wave + bright * spot + random.normal(0, 12, brain.shape)
        made[code] = np.pad(np.where(brain, 8 * values.round(), 0), MARGIN).astype(np.int16)
    return made


@lru_cache(2)
def model(spacing_mm: float | None) -> Model:
    """A tiny network with random weights that finds something of every label."""
    torch.manual_seed(1)
    method = create("unet", preset="tiny", width=4, depth=2, completion=1.0)
    method.facts = TrainingFacts(spacing_mm=None if spacing_mm is None else (spacing_mm,) * 3, window=(16, 16, 16))
    return Model(name="tiny", method=method.eval())


def changed(array: np.ndarray, change: Change) -> tuple[np.ndarray, np.ndarray]:
    """A native array after a change, and its affine."""
    affine = AFFINE.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(change.before)
    pads = [(max(0, a), max(0, b)) for a, b in zip(change.before, change.after, strict=True)]
    array = np.pad(array, pads)
    cuts = [
        slice(max(0, -a), size - max(0, -b))
        for a, b, size in zip(change.before, change.after, array.shape, strict=True)
    ]
    array = array[tuple(cuts)].transpose(change.axes)
    affine[:3, :3] = affine[:3, list(change.axes)]
    for axis, flip in enumerate(change.flips):
        if flip:
            array = np.flip(array, axis)
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
    return np.ascontiguousarray(array * change.factor).astype(change.dtype), affine


def undone(image: Any, change: Change) -> np.ndarray:
    """A result brought back to the study's own grid, (i, j, k); what was cut away is 0.

    A DICOM series is read in the order of its places, which may be the reverse of that in which it was written.
    """
    written = changed(study()["t1"], change)[1]
    turn = ornt_transform(io_orientation(image.affine), io_orientation(written))
    array = apply_orientation(np.asarray(image.dataobj), turn)
    for axis, flip in enumerate(change.flips):
        array = np.flip(array, axis) if flip else array
    array = array.transpose(np.argsort(change.axes))
    cuts = [
        slice(max(0, a), size - max(0, b)) for a, b, size in zip(change.before, change.after, array.shape, strict=True)
    ]
    return np.pad(
        array[tuple(cuts)], [(max(0, -a), max(0, -b)) for a, b in zip(change.before, change.after, strict=True)]
    )


def stored(folder: Path, code: str, change: Change) -> Any:
    """A sequence of the study, changed and written; what is handed to `predict`."""
    array, affine = changed(study()[code], change)
    if change.format == "memory" or change.format.startswith("nii"):
        image = nib.Nifti1Image(array, affine, dtype=array.dtype)
        path = folder / f"{change.names}{code}.{change.format}"
        return image if change.format == "memory" else image.to_filename(path) or path
    geometry = Geometry(affine, array.shape)
    array = from_native(array, affine)
    if change.format == "dicom":
        write_dicom(folder / f"{change.names}{code}", array.astype(np.int16), geometry, f"study/{code}")
        return folder / f"{change.names}{code}"
    path = folder / f"{change.names}{code}.{change.format}"
    write_foreign(path, np.ascontiguousarray(array), geometry)
    return path


def predicted(
    folder: Path, change: Change, spacing_mm: float | None
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Label map and completed sequences on the study's own grid, and the volumes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    images = {code: stored(folder, code, change) for code in study()}
    if change.reverse:
        images = dict(reversed(images.items()))
    result = predict_study(images, model(spacing_mm))
    completed = {code: undone(image, change) for code, image in result.completed.items()}
    return undone(result.segmentation, change), completed, result.volumes_ml


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metamorphic")
    configuration.set_hypothesis_home_dir(folder / "hypothesis")  # nothing in the checkout
    return folder / "study"


@lru_cache(2)
def original(folder: Path, spacing_mm: float | None) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    found = predicted(folder, Change(), spacing_mm)
    shares = np.bincount(found[0].ravel(), minlength=4) / (found[0] >= 0).sum()
    assert (shares > 0).sum() >= 2, f"the network marks nothing, or all, {shares}"
    return found


@pytest.mark.parametrize("spacing_mm", [None, 4.0])
def test_what_means_nothing_changes_nothing(folder: Path, spacing_mm: float | None) -> None:
    @settings(
        max_examples=3,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @example(change=Change(after=(1, 1, 1)))
    @example(change=Change(before=(-MARGIN,) * 3, after=(-MARGIN,) * 3, format="nii", dtype="float32"))
    @example(change=Change(format="dicom", axes=(1, 2, 0), flips=(True, False, True)))
    @given(change=CHANGES)
    def every(change: Change) -> None:
        label, completed, volumes = original(folder, spacing_mm)
        now, filled, sizes = predicted(folder, change, spacing_mm)
        assert (label == now).all(), f"{(label != now).sum()} of {(label > 0).sum()} voxels have another label"
        assert {region: value and round(value, 3) for region, value in sizes.items()} == {
            region: value and round(value, 3) for region, value in volumes.items()
        }
        for code in completed:
            np.testing.assert_allclose(filled[code], completed[code], atol=2e-3, err_msg=code)

    every()
