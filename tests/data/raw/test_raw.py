"""Raw studies: alignment, brain mask, and the way back to every grid."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from raw_heads import head, motion

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume, write_image
from anymri.data.raw import registration, tools
from anymri.data.raw.grids import covered, sample, upright_grid
from anymri.data.raw.identify import judge_tissues
from anymri.data.raw.intensity import normalise
from anymri.data.raw.source import find_raw
from anymri.data.raw.study import BOX_MM, RawOptions, choose_reference, prepare_raw
from anymri.types import UserError

POSE = motion((8.0, -3.0, 5.0), (4.0, -6.0, 3.0))
MOVED = motion((1.0, 2.0, -1.5), (2.0, 1.0, -3.0))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture(scope="module")
def study():
    """A T1 and a FLAIR between which the head moved, prepared without bias correction."""
    t1, brain = head("t1", (3.0, 2.5, 2.5), POSE)
    flair, _ = head("flair", (4.0, 2.5, 2.5), MOVED @ POSE, seed=1)
    prepared = prepare_raw({"flair": flair, "t1": t1}, RawOptions(skip=("bias",), brain_mask="template", spacing_mm=2))
    return prepared, brain


def test_the_sequences_are_aligned(study):
    prepared, _ = study
    assert prepared.reference == "t1"
    t1_to_flair = prepared.grid_to_native["flair"] @ np.linalg.inv(prepared.grid_to_native["t1"])
    corners = np.array([[-60, -90, -30, 1], [60, 60, 60, 1], [0, -20, 10, 1], [50, -80, 20, 1.0]])
    error = np.linalg.norm(((t1_to_flair - MOVED) @ corners.T)[:3], axis=0)
    assert error.max() < 1.0  # mm; the voxels are of 2.5 x 2.5 x 4
    facts = prepared.provenance["sequences"]["flair"]["to_reference"]
    assert facts["mutual_information_after"] > facts["mutual_information_before"]


def test_the_head_is_turned_upright_but_not_scaled(study):
    prepared, _ = study
    linear = prepared.grid_to_native["t1"][:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-9)
    truth = POSE[:3, :3]
    assert np.degrees(np.arccos((np.trace(linear.T @ truth) - 1) / 2)) < 3


def test_the_brain_is_found(study):
    prepared, brain = study
    found = prepared.to_native(prepared.brain_mask.astype(np.float32), "t1") > 0.5
    assert dice(found, brain) > 0.95
    image = prepared.images["flair"].array
    assert ((image != 0) == (prepared.brain_mask & (image != 0))).all()
    assert (image != 0).sum() > 0.9 * prepared.brain_mask.sum()


def test_labels_go_to_every_native_grid_and_back(study):
    prepared, _ = study
    places = np.stack(np.meshgrid(*[np.arange(size) for size in prepared.grid.shape_dhw], indexing="ij"))
    label = np.zeros(prepared.grid.shape_dhw, np.uint8)
    for value, centre in ((1, (50, 70, 35)), (2, (50, 50, 60))):
        label[((places - np.array(centre)[:, None, None, None]) ** 2).sum(0) < 10**2] = value
    for code in prepared.native:
        back = prepared.label_from_native(prepared.label_to_native(label, code), code)
        for value in (1, 2):
            assert dice(back == value, label == value) >= 0.95


@pytest.mark.slow
def test_what_is_not_handed_in_cannot_matter(study):
    """The reference goes its way alone: other sequences only follow it."""
    both, _ = study
    t1, _ = head("t1", (3.0, 2.5, 2.5), POSE)
    alone = prepare_raw({"t1": t1}, RawOptions(skip=("bias",), brain_mask="template", spacing_mm=2))
    assert np.array_equal(alone.images["t1"].array, both.images["t1"].array)
    assert np.array_equal(alone.grid_to_native["t1"], both.grid_to_native["t1"])


@pytest.mark.slow
@pytest.mark.parametrize("code", ["t1", "t2"])
def test_a_slab_finds_its_height(code):
    whole, _ = head(code, (3.0, 3.0, 3.0), POSE)
    affine = whole.geometry.affine.copy()
    affine[2, 3] += 3 * 20
    slab = Volume(whole.array[20:38], Geometry(affine, (*whole.geometry.shape[:2], 18)), "slab")
    found, facts = registration.register_template(registration.working(slab.array, slab.geometry))
    truth = POSE @ np.diag([0.92, 0.92, 0.92, 1])
    point = np.array([0.0, -18.0, 20.0, 1.0])
    assert facts["kind"].startswith("slab")
    assert np.linalg.norm((found @ point - truth @ point)[:3]) < 8


def test_empty_layers_around_a_head_change_nothing(tmp_path: Path):
    t1, brain = head("t1", (6.0, 6.0, 6.0))
    layers = ((3, 2), (0, 1), (4, 2))
    affine = t1.geometry.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [4, 0, 3]
    wider = np.pad(t1.array, layers)
    padded = Volume(wider, Geometry(affine, wider.shape[::-1]), t1.source)
    mask = write_image(tmp_path / "mask.nii.gz", brain.astype(np.uint8), t1.geometry)
    wider_mask = write_image(tmp_path / "wider.nii.gz", np.pad(brain, layers).astype(np.uint8), padded.geometry)
    skip = ("bias", "template", "coregistration")
    plain = prepare_raw({"t1": t1}, RawOptions(skip=skip, brain_mask=str(mask), spacing_mm=5))
    again = prepare_raw({"t1": padded}, RawOptions(skip=skip, brain_mask=str(wider_mask), spacing_mm=5))
    assert again.native["t1"].shape_dhw == wider.shape
    np.testing.assert_array_equal(again.grid.affine, plain.grid.affine)
    np.testing.assert_array_equal(again.brain_mask, plain.brain_mask)
    np.testing.assert_array_equal(again.images["t1"].array, plain.images["t1"].array)


def test_the_reference_is_the_best_of_those_at_hand():
    grids = {code: Geometry(np.eye(4), (9, 9, 9)) for code in ("t2", "flair", "t1c")}
    assert choose_reference(grids) == "t1c"
    assert choose_reference({"t2": grids["t2"], "flair": grids["flair"]}) == "flair"


def test_sampling_follows_the_world_matrix():
    grid = upright_grid((0, 0, 0), (10, 12, 14), 1.0)
    d, h, w = np.meshgrid(*[np.arange(size) for size in grid.shape_dhw], indexing="ij")
    array = (w + 10.0 * h + 100.0 * d).astype(np.float32)  # x + 10 y + 100 z of the world
    moved = sample(array, grid, grid, motion(shift=(2.0, 1.0, 3.0)))
    assert moved[4, 5, 6] == pytest.approx(8 + 60 + 700)
    assert not covered(grid, grid, motion(shift=(2.0, 1.0, 3.0)))[-1].any()
    assert covered(grid, grid).all()


@pytest.mark.parametrize(
    ("means", "code"),
    [
        ({"csf": 0.4, "grey": 0.8, "white": 1.0}, "t1"),
        ({"csf": 2.0, "grey": 1.3, "white": 1.0}, "t2"),
        ({"csf": 0.4, "grey": 1.2, "white": 1.0}, "flair"),
        ({"csf": 1.24, "grey": 1.28, "white": 1.0}, "t2"),  # a slab with little CSF, thick slices
        ({"csf": 1.2, "grey": 1.15, "white": 1.0}, "pd"),
        ({"csf": 1.35, "grey": 1.17, "white": 1.0}, "pd"),
        ({"csf": 1.0, "grey": 1.0, "white": 1.0}, None),
    ],
)
def test_tissues_tell_the_sequence(means, code):
    assert judge_tissues(means)[0] == code


@pytest.mark.parametrize("kind", ["zscore", "percentile", "histogram"])
def test_normalisation_keeps_order_and_background(kind):
    generator = np.random.default_rng(0)
    image = generator.gamma(2, 100, (8, 9, 10)).astype(np.float32)
    inside = generator.random(image.shape) > 0.3
    values, facts = normalise(image, inside, "t1", kind)
    assert facts["kind"] == kind
    assert ((values != 0) == inside).all()
    order = np.argsort(image[inside])
    assert (np.diff(values[inside][order]) >= 0).all()
    if kind == "histogram":
        assert abs(np.median(values[inside])) < 0.1
        assert values[inside].std() == pytest.approx(1, abs=0.1)


def test_wrong_options_are_refused_in_a_line(tmp_path: Path):
    with pytest.raises(UserError, match="--skip n5: no such step"):
        RawOptions(skip=("n5",))
    with pytest.raises(UserError, match="--normalise best: unknown"):
        RawOptions(normalise="best")
    with pytest.raises(UserError, match="no such file"):
        tools.find_brain_tool(str(tmp_path / "mask.nii.gz"))
    with pytest.raises(UserError, match="numbers choose series of a DICOM study"):
        find_raw(None, {"t1": "3"}, ["t1"])


def test_the_users_program_makes_the_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in for SynthStrip that takes every voxel above 250."""
    program = tmp_path / "mri_synthstrip"
    program.write_text(
        "#!/usr/bin/env python3\nimport sys, nibabel, numpy as np\nimage = nibabel.load(sys.argv[2])\n"
        "mask = (np.asarray(image.dataobj) > 250).astype(np.uint8)\n"
        "nibabel.Nifti1Image(mask, image.affine).to_filename(sys.argv[4])\n".replace(
            "/usr/bin/env python3", __import__("sys").executable
        ),
        encoding="utf-8",
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.find_brain_tool("auto") == "synthstrip"
    image, _ = head("t1", (6.0, 6.0, 6.0))
    assert np.array_equal(tools.external_brain_mask("synthstrip", image), image.array > 250)
    with pytest.raises(UserError, match="the program hd-bet is not installed"):
        tools.find_brain_tool("hd-bet")


def test_a_mask_of_ones_own_is_used(tmp_path: Path):
    image, brain = head("t1", (6.0, 6.0, 6.0))
    mask = write_image(tmp_path / "mask.nii.gz", brain.astype(np.uint8), image.geometry)
    options = RawOptions(skip=("bias", "template", "coregistration"), brain_mask=str(mask), spacing_mm=6)
    prepared = prepare_raw({"t1": image}, options)
    assert prepared.provenance["brain_mask"]["method"] == "file"
    assert np.array_equal(prepared.to_native(prepared.brain_mask.astype(np.float32), "t1") > 0.5, brain)
    other, _ = head("t1", (5.0, 6.0, 6.0))
    with pytest.raises(UserError, match="on another grid"):
        prepare_raw({"t1": other}, options)


def test_the_box_holds_the_average_brain():
    grid = upright_grid(*BOX_MM, 2.0)
    assert grid.shape == (91, 110, 94)
