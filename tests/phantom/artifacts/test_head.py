"""The head around a brain while artifacts act."""

import numpy as np
import pytest

from anymri.phantom.artifacts import Scan, artifact_stream, cut_back, draw_shell, impose_artifacts, put_in_head
from anymri.phantom.settings import Grid

GRID = Grid(3.0, (6, 10, 12), (46, 66, 66))


@pytest.fixture(scope="module")
def brain():
    z, y, x = np.meshgrid(*(np.linspace(-1.1, 1.1, size) for size in GRID.shape), indexing="ij")
    return z**2 + y**2 + x**2 < 1


@pytest.fixture(scope="module")
def scan(brain):
    return Scan(np.where(brain, 2.0, 0.0), brain, GRID)


@pytest.fixture(scope="module")
def shell(brain):
    return draw_shell(np.random.default_rng(0), brain, GRID)


def test_layers_lie_outside_the_brain_and_inside_the_volume(brain, scan, shell):
    head = put_in_head(scan, shell, "t1")
    assert head.grid.start == (0, 4, 6)
    assert head.grid.stop == (Grid.whole(3.0).shape[0], 72, 72)
    np.testing.assert_array_equal(cut_back(head, GRID).image[brain], 2.0)
    assert not cut_back(head, GRID).fat[brain].any()
    assert shell.fat.max() == pytest.approx(1, abs=0.35)
    middle = head.image[head.grid.shape[0] // 2, head.grid.shape[1] // 2]
    bright = np.nonzero(middle > 2.2)[0]  # fat is brighter than brain in T1, on both sides of it
    seen = np.nonzero(head.seen[head.grid.shape[0] // 2, head.grid.shape[1] // 2])[0]
    assert bright[0] < seen[0] - 2
    assert bright[-1] > seen[-1] + 2


def test_nothing_is_lost_by_going_there_and_back(scan, shell):
    back = cut_back(put_in_head(scan, shell, "flair"), GRID)
    np.testing.assert_array_equal(back.seen, scan.seen)
    np.testing.assert_array_equal(np.where(back.seen, back.image, 0), scan.image)
    assert back.grid == GRID


def test_fat_of_the_scalp_reaches_the_brain(brain, scan, shell):
    head = put_in_head(scan, shell, "t1")
    for name in ("chemical_shift", "ghosting", "aliasing"):
        stream = lambda artifact: artifact_stream(1, 0, "t1", artifact)  # noqa: E731
        with_head = cut_back(impose_artifacts(head, {name: 0.8}, stream)[0], GRID).image[brain]
        alone = impose_artifacts(scan, {name: 0.8}, stream)[0].image[brain]
        assert np.abs(with_head - alone).max() > 0.1, name
