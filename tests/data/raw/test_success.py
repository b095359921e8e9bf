"""Registration and brain mask know when they failed."""

from __future__ import annotations

import numpy as np
import pytest
from raw_heads import head, motion
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.raw import orientation, registration, verdict
from anymri.data.raw.grids import sample, upright_grid
from anymri.data.raw.orientation import describe_turn, register_any_way_up, turn
from anymri.data.raw.study import BOX_MM, RawOptions, prepare_raw
from anymri.data.raw.success import LEAST_FIT, dice, match_sharpness, template_brain, tissue_fit
from anymri.types import UserError

SIZE = np.diag([0.92, 0.92, 0.92, 1.0])
POSE = motion((8.0, -3.0, 5.0), (4.0, -6.0, 3.0))


def small(volume: Volume) -> registration.Working:
    return registration.working(volume.array, volume.geometry)


def objects() -> dict[str, registration.Working]:
    """What is no head: a cube, a bottle with shading, a shell, noise."""
    grid = upright_grid(*BOX_MM, 3.0)
    generator = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[3.0 * (np.arange(n) - n / 2) for n in grid.shape_dhw], indexing="ij"))
    radius = np.sqrt((place**2).sum(0))
    made = {
        "cube": 500.0 * (np.abs(place).max(0) < 65),
        "bottle": (500 + place[0]) * (radius < 75),
        "shell": 500.0 * (radius < 65) + 900 * ((radius > 75) & (radius < 82)),
        "noise": np.zeros(grid.shape_dhw),
    }
    return {
        name: registration.working(np.abs(image + generator.normal(0, 20, image.shape)).astype(np.float32), grid)
        for name, image in made.items()
    }


@pytest.mark.parametrize("code", ["t1", "t2", "flair"])
def test_tissues_fit_where_the_brain_is_and_nowhere_else(code):
    image = small(head(code, (3.0, 2.5, 2.5), POSE)[0])
    true = POSE @ SIZE
    assert tissue_fit(image, true) > 5 * LEAST_FIT
    assert tissue_fit(image, motion(shift=(12.0, 10.0, 8.0)) @ true) < LEAST_FIT
    assert tissue_fit(image, true @ motion((90.0, 0, 0))) < LEAST_FIT
    assert tissue_fit(image, motion(shift=(300.0, 0, 0)) @ true) == 0


def test_nothing_but_a_head_fits():
    for name, image in objects().items():
        for shift in ((0, 0, 0), (0, 18, -8), (5, 30, 10)):
            assert tissue_fit(image, motion(shift=shift) @ SIZE) < LEAST_FIT, name


def test_two_sequences_of_one_head_match_sharply_and_two_heads_do_not():
    t1, inside = head("t1", (3.0, 2.5, 2.5), POSE)
    t2, _ = head("t2", (4.0, 2.5, 2.5), POSE, seed=1)
    reference = small(t1)
    brain = verdict.brain_on(reference, inside, t1.geometry, np.eye(4))
    assert match_sharpness(reference, small(t2), np.eye(4), brain) > verdict.SHARPNESS
    other = t2._replace(array=another_person(t2.array))
    assert match_sharpness(reference, small(other), np.eye(4), brain) < verdict.SHARPNESS
    assert np.isnan(match_sharpness(reference, small(t2), motion(shift=(400.0, 0, 0)), brain))


def another_person(array: np.ndarray) -> np.ndarray:
    """The same outline with every gyrus elsewhere: moved by a smooth field of about 8 mm."""
    generator = np.random.default_rng(5)
    field = ndimage.gaussian_filter(generator.normal(size=(3, *array.shape)), (0, 4, 5, 5))
    field *= np.array([2.5, 4, 4])[:, None, None, None] / field.std()
    places = np.stack(np.meshgrid(*[np.arange(size) for size in array.shape], indexing="ij")) + field
    return ndimage.map_coordinates(array, places, order=1).astype(np.float32)


def test_a_turn_changes_the_world_and_no_value():
    volume, _ = head("t1", (6.0, 5.0, 4.0), POSE)
    image = registration.Working(volume.array, volume.geometry)
    matrix = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # x to y, y to z, z to x
    turned = turn(image, matrix)
    assert np.allclose(turned.geometry.affine_dhw[:3, :3], np.diag(turned.geometry.spacing_mm)[::-1])
    world = np.eye(4)
    world[:3, :3] = matrix
    back = sample(turned.array, turned.geometry, image.geometry, world, smooth=False)
    assert np.allclose(back, image.array, atol=1e-3)
    assert len(orientation._turns()) == 23


def test_a_turn_is_told_by_face_and_crown():
    # From the header's world to the head's: what the header calls top is the face, what it calls back the crown.
    matrix = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert describe_turn(matrix) == "turned by 90 degrees: the face points to its top, the crown to its back"
    upside_down = np.diag([1.0, -1, -1])
    assert describe_turn(upside_down) == "turned by 180 degrees: the face points to its back, the crown to its bottom"


@pytest.mark.slow
@pytest.mark.parametrize("affine", [np.diag([1.0, 1, -1, 1]), motion((90.0, 0, 0)), motion((0, 0, 180.0))])
def test_a_head_that_the_header_turned_is_found(affine):
    from anymri.data.geometry import from_native, to_native

    volume, _ = head("t1", (3.0, 3.0, 3.0), POSE)
    geometry = Geometry(np.round(affine) @ volume.geometry.affine, volume.geometry.shape)
    array = np.ascontiguousarray(from_native(to_native(volume.array, volume.geometry), geometry.affine))
    found, facts = register_any_way_up(small(Volume(array, geometry, "t1.nii.gz")))
    assert facts["tissue_fit"] > 5 * LEAST_FIT
    assert facts["turned"].startswith("turned by ")
    # The middle of the brain has no side, so a mirror image puts it at the same place.
    middle = np.array([0, -18.0, 8.0, 1])
    true = np.round(affine) @ POSE @ SIZE @ middle
    assert np.linalg.norm((found @ middle - true)[:3]) < 5


def test_a_head_the_usual_way_up_is_not_turned(monkeypatch):
    monkeypatch.setattr(orientation, "register_template", lambda image: (POSE @ SIZE, {"kind": "affine"}))
    monkeypatch.setattr(orientation, "rough_match", pytest.fail)
    _, facts = register_any_way_up(small(head("t1", (4.0, 4.0, 4.0), POSE)[0]))
    assert "turned" not in facts


def test_template_verdicts():
    volume, _ = head("t1", (6.0, 6.0, 6.0))
    assert verdict.judge_template(volume, "T1-weighted", {"tissue_fit": 0.3}) == []
    doubt = verdict.judge_template(volume, "T1-weighted", {"tissue_fit": 1.5 * LEAST_FIT, "turned": "turned by 90"})
    assert "explains 6% of its grey values" in doubt[0]
    assert "left and right may be exchanged" in doubt[1]
    with pytest.raises(UserError, match=r"^t1\.nii\.gz: no brain was found.*1%.*--brain-mask"):
        verdict.judge_template(volume, "T1-weighted", {"tissue_fit": 0.01})


def test_mask_verdicts():
    volume, brain = head("t1", (4.0, 4.0, 4.0))
    grid = volume.geometry
    notes, facts = verdict.judge_mask(volume, "T1-weighted", brain, grid, np.eye(4), SIZE)
    assert notes == []
    assert facts["dice_with_average_brain"] > 0.95
    assert facts["expected_ml"] == pytest.approx(brain.sum() * 0.064, rel=0.05)
    half = brain.copy()
    half[..., : brain.shape[2] // 2] = False
    notes, _ = verdict.judge_mask(volume, "T1-weighted", half, grid, np.eye(4), SIZE)
    assert "overlap only with a Dice of 0.6" in notes[0]
    with pytest.raises(UserError, match="only 0 ml of brain were found"):
        verdict.judge_mask(volume, "T1-weighted", np.zeros_like(brain), grid, np.eye(4), SIZE)
    assert dice(template_brain(grid, np.linalg.inv(SIZE)), brain) > 0.95


def test_a_sequence_of_another_head_or_place_is_told():
    t1, inside = head("t1", (3.0, 2.5, 2.5), POSE)
    flair, _ = head("flair", (4.0, 2.5, 2.5), POSE, seed=1)
    images = {"t1": small(t1), "flair": small(flair)}
    brain = verdict.brain_on(images["t1"], inside, t1.geometry, np.eye(4))
    same = {"t1": np.eye(4), "flair": np.eye(4)}
    facts = {"flair": {"rotation_degrees": 1.0, "translation_mm": 2.0}}
    assert verdict.judge_coregistration(images, "t1", same, facts, brain) == []
    assert facts["flair"]["match_sharpness"] > verdict.SHARPNESS
    moved = {"flair": {"rotation_degrees": 14.0, "translation_mm": 31.0}}
    assert (
        "turned by 14 degrees and shifted by 31 mm" in verdict.judge_coregistration(images, "t1", same, moved, brain)[0]
    )
    images["flair"] = small(flair._replace(array=another_person(flair.array)))
    assert "FLAIR does not match T1-weighted" in verdict.judge_coregistration(images, "t1", same, facts, brain)[0]


def test_thick_slices_are_told_on_the_scanner_s_grid():
    grids = {"t1": Geometry(np.diag([1, 1, 3.0, 1]), (9, 9, 9)), "flair": Geometry(np.diag([1, 1, 4.0, 1]), (9, 9, 9))}
    assert verdict.judge_slices(grids) == ["FLAIR has slices 4.0 mm apart: small lesions may be missed."]


def test_a_stripped_brain_given_as_raw_is_not_stripped_again():
    volume, brain = head("t1", (4.0, 4.0, 4.0), POSE)
    stripped = volume._replace(array=np.where(brain, volume.array, 0))
    assert verdict.stripped_sequences({"t1": stripped, "flair": head("flair", (4.0, 4.0, 4.0), POSE)[0]}) == ("t1",)
    options = RawOptions(skip=("bias", "template"), spacing_mm=4)
    prepared = prepare_raw({"t1": stripped}, options)
    assert prepared.provenance["brain_mask"]["method"].startswith("none")
    assert prepared.notes[0].startswith("T1-weighted: stripped already, though given as raw")
    assert dice(prepared.to_native(prepared.brain_mask.astype(np.float32), "t1") > 0.5, brain) > 0.95


def test_a_head_is_not_taken_for_a_brain():
    volume, _ = head("t1", (4.0, 4.0, 4.0), POSE)
    with pytest.raises(UserError, match="leave out --brain-mask none"):
        prepare_raw({"t1": volume}, RawOptions(skip=("bias", "template"), brain_mask="none"))


def test_what_holds_no_head_is_refused_before_any_work():
    array = np.zeros((40, 40, 40), np.float32)
    array[18:22, 18:22, 18:22] = np.random.default_rng(0).uniform(50, 100, (4, 4, 4))
    volume = Volume(array, Geometry(np.diag([3.0, 3, 3, 1]), (40, 40, 40)), "t1.nii.gz")
    with pytest.raises(UserError, match=r"^t1\.nii\.gz: shows no head, only \d+ ml"):
        prepare_raw({"t1": volume}, RawOptions(skip=("bias",), brain_mask="template"))


@pytest.mark.slow
def test_a_cube_is_refused():
    image = objects()["cube"]
    volume = Volume(image.array, image.geometry, "t1.nii.gz")
    with pytest.raises(UserError, match=r"^t1\.nii\.gz: no brain was found in it"):
        prepare_raw({"t1": volume}, RawOptions(skip=("bias",), brain_mask="template"))
