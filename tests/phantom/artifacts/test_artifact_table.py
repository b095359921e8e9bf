"""Every artifact by its strength: nothing at 0, more damage with more strength, the truth recorded."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from anymri.errors import UserError
from anymri.phantom.artifacts import ARTIFACTS, Scan, artifact_stream, impose_artifacts
from anymri.phantom.artifacts.coverage import move_rigidly
from anymri.phantom.settings import Grid


@pytest.fixture(scope="module")
def scan():
    """An ellipsoid with structure, a rim that is half fat, and air below it."""
    grid = Grid(3.0, (4, 6, 5), (44, 58, 49))
    z, y, x = np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in grid.shape), indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=grid.shape), 1.5)
    image = np.where(radius < 1, 1 + 2 * texture, 0.0)
    rim = np.where((radius > 0.85) & (radius < 1), 0.5, 0.0)
    middle = (np.array(grid.start) + np.array(grid.shape) / 2) * 3.0
    return Scan(image, radius < 1, grid, 0, rim, {"hole": (middle - [60.0, 0, 0], 12.0)})


def stream(name):
    return artifact_stream(3, 0, "t1", name)


def damage(spoiled, scan):
    """Root mean square change where both are seen, plus the share no longer seen or newly seen."""
    both = spoiled.seen & scan.seen
    change = np.sqrt(((spoiled.image - scan.image)[both] ** 2).mean())
    return change + (spoiled.seen ^ scan.seen).sum() / scan.seen.sum()


def test_strength_zero_changes_nothing(scan):
    same, record = impose_artifacts(scan, dict.fromkeys(ARTIFACTS, 0.0), stream)
    assert same is scan
    assert record == {}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_damage_grows_with_strength(scan, name):
    before = scan.image.copy()
    done = []
    for strength in (0.02, 0.25, 0.5, 1.0):
        spoiled, record = impose_artifacts(scan, {name: strength}, stream)
        assert record[name]["strength"] == strength
        assert np.isfinite(spoiled.image).all()
        assert (spoiled.image >= 0).all()
        done.append(damage(spoiled, scan))
    np.testing.assert_array_equal(scan.image, before)
    assert all(less < more for less, more in itertools.pairwise(done)), done
    assert done[-1] > 0.05, done


@pytest.mark.parametrize("name", ARTIFACTS)
def test_the_same_stream_gives_the_same_image(scan, name):
    first, second = (impose_artifacts(scan, {name: 0.5}, stream)[0].image for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_streams_differ_by_subject_sequence_and_artifact():
    draws = {
        artifact_stream(seed, index, sequence, name).uniform()
        for seed, index, sequence, name in [
            (0, 0, "t1", "motion"), (1, 0, "t1", "motion"), (0, 1, "t1", "motion"), (0, 0, "t2", "motion"),
            (0, 0, "t1", "spike"),
        ]
    }  # fmt: skip
    assert len(draws) == 5


def test_lost_slices_are_dark_and_recorded_by_their_number_in_the_volume(scan):
    for name in ("missing_slices", "partial_coverage"):
        spoiled, record = impose_artifacts(scan, {name: 0.5}, stream)
        lost = np.array(record[name]["slices"]) - scan.grid.start[0]
        dark = np.nonzero(scan.seen.any((1, 2)) & ~spoiled.image.any((1, 2)))[0]
        np.testing.assert_array_equal(lost, dark)
        assert not spoiled.seen[lost].any()
        kept = np.setdiff1d(np.arange(40), lost)
        np.testing.assert_array_equal(spoiled.image[kept], scan.image[kept])
    assert len(lost) == round(0.25 * scan.seen.any((1, 2)).sum())


def test_drop_out_is_near_the_air(scan):
    spoiled, _ = impose_artifacts(scan, {"susceptibility": 0.4}, stream)
    change = np.abs(spoiled.image - scan.image)
    assert change[:10].max() > 0.5
    assert change[-8:].max() < 0.2


def test_phase_cancellation_blackens_the_rim_alone(scan):
    spoiled, _ = impose_artifacts(scan, {"phase_cancellation": 1.0}, stream)
    rim = scan.fat > 0
    np.testing.assert_allclose(spoiled.image[rim], 0, atol=1e-12)
    np.testing.assert_allclose(spoiled.image[~rim], scan.image[~rim], atol=1e-12)


def test_overflow_washes_out_large_structures(scan):
    spoiled, record = impose_artifacts(scan, {"rf_overflow": 0.5}, stream)
    assert record["rf_overflow"]["clipped_energy"] > 0.5
    assert spoiled.image[scan.seen].mean() < 0.7 * scan.image[scan.seen].mean()
    assert spoiled.image[~scan.seen].mean() > 0.01  # a halo in the air


def test_misregistration_is_undone_by_the_recorded_pose(scan):
    spoiled, record = impose_artifacts(scan, {"misregistration": 0.5}, stream)
    pose = record["misregistration"]
    assert np.linalg.norm(pose["shift_mm"]) == pytest.approx(6.0)
    assert np.linalg.norm(pose["angles_degrees"]) == pytest.approx(4.0)
    again = move_rigidly(scan.image, np.array(pose["angles_degrees"]), np.array(pose["shift_mm"]), 3.0)
    np.testing.assert_array_equal(again, spoiled.image)


def test_a_quarter_turn_and_a_shift_go_where_they_should():
    image = np.zeros((5, 5, 5))
    image[2, 2, 4] = 1.0
    np.testing.assert_allclose(move_rigidly(image, np.zeros(3), np.array([2.0, 0, -4.0]), 2.0)[3, 2, 2], 1.0)
    turned = move_rigidly(image, np.array([90.0, 0, 0]), np.zeros(3), 2.0)
    assert np.argwhere(turned > 0.5).tolist() in ([[2, 4, 2]], [[2, 0, 2]])


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"flow": 0.5}, "unknown artifact 'flow'; choose from misregistration"),
        ({"motion": 1.5}, "the strength of motion is 1.5"),
        ({"motion": float("nan")}, "the strength of motion is nan"),
        ({"motion": True}, "the strength of motion is True"),
    ],
)
def test_bad_strengths_are_refused(scan, strengths, message):
    with pytest.raises(UserError, match=message):
        impose_artifacts(scan, strengths, stream)
