"""The page of pictures: which slice is shown, which way up, and what is kept of an older page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[1] / "experiments" / "phantom_gallery.py"


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("phantom_gallery", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def study():
    image = np.zeros((20, 60, 50), np.float32)
    image[2:18, 10:50, 10:40] = 100.0
    image[8, 45, 12] = 300.0  # front, left of the body
    label = np.zeros(image.shape, np.uint8)
    label[5, 20:27, 20:30] = 2  # more of one label
    label[8, 20:25, 20:25] = 1
    label[8, 25:28, 20:25] = 3
    return {"t1": image}, label


def test_the_slice_with_most_labels_is_shown_front_up_and_left_on_the_right(gallery, study):
    images, label = study
    view = gallery.View.of(images, label)
    assert view.place == 8
    tile = view.grey(images["t1"], "t1")
    assert tile.shape == (*gallery.TILE, 3)
    row, column = np.argwhere(view.cut(images["t1"]) == 300)[0]
    assert row < gallery.TILE[0] / 2
    assert column > gallery.TILE[1] / 2


def test_a_sheet_holds_every_picture(gallery, study, tmp_path):
    from PIL import Image

    view = gallery.View.of(*study)
    tiles = gallery.study_tiles(view, *study)
    gallery.draw_sheet(tmp_path / "sheets" / "one.jpg", [("a", tiles), ("b", tiles)], ["t1", "label"])
    height, width = gallery.TILE
    with Image.open(tmp_path / "sheets" / "one.jpg") as sheet:
        assert sheet.size == (92 + 2 * width, 16 + 2 * height)


def test_what_was_written_by_hand_stays(gallery, tmp_path):
    page = tmp_path / "page.md"
    gallery.write_page(page)
    page.write_text(page.read_text(encoding="utf-8") + "seen\n", encoding="utf-8")
    gallery.write_page(page)
    text = page.read_text(encoding="utf-8")
    assert text.endswith("seen\n")
    assert text.count(gallery.BY_HAND) == text.count("# What the phantom looks like") == 1
