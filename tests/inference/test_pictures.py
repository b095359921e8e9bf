"""Pictures: orientation, colours, stamps, the same bytes each time."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from anymri.inference.pictures import (
    brain_box,
    colour_hex,
    data_uri,
    heat_picture,
    label_colours,
    lesion_slices,
    montage_png,
    slice_picture,
    slice_png,
    value_range,
)
from anymri.types import DataSpec


def brain(shape=(20, 24, 28)):
    image = np.zeros(shape, np.float32)
    image[3:-3, 3:-3, 3:-3] = 0.5
    return image


def brightest(picture):
    grey = np.asarray(picture.convert("L"), float)
    rows, columns = np.nonzero(grey > 0.9 * grey.max())
    return rows.mean() / grey.shape[0], columns.mean() / grey.shape[1]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_pictures_follow_the_radiological_convention(plane):
    image = brain()
    image[14:17, 17:21, 21:25] = 1.0  # superior, anterior, patient's right
    row, column = brightest(
        slice_picture(image, plane=plane, index={"axial": 15, "coronal": 18, "sagittal": 22}[plane])
    )
    assert row < 0.4  # front or top is up
    assert column < 0.4  # the patient's right, or the face, is on the left


def test_pixels_are_square_whatever_the_spacing():
    box = (slice(0, 20), slice(0, 24), slice(0, 28))
    picture = slice_picture(brain(), plane="coronal", spacing_mm=(3.0, 1.0, 1.5), box=box, height=120)
    assert picture.size == (84, 120)  # 28 x 1.5 mm wide, 20 x 3 mm high


def test_labels_are_drawn_in_their_colours():
    image, label = brain(), np.zeros((20, 24, 28), np.uint8)
    label[8:12, 8:14, 8:14] = 2
    for style in ("contour", "fill"):
        plain = np.asarray(slice_picture(image, plane="axial", index=10))
        drawn = np.asarray(slice_picture(image, label, plane="axial", index=10, style=style))
        changed = (plain != drawn).any(-1)
        assert changed.any()
        assert not changed.all()
    assert (np.asarray(slice_picture(image, label)) == label_colours()["edema"]).all(-1).any()
    assert len({colour_hex(colour) for colour in label_colours().values()}) == 3


def test_the_slice_with_most_lesion_is_shown():
    label = np.zeros((10, 12, 14), np.uint8)
    label[3, 2:9, 4:6] = 1
    label[4, 2, 4] = 1
    assert lesion_slices(label, np.ones(label.shape)) == {"axial": 3, "coronal": 2, "sagittal": 4}
    assert lesion_slices(np.zeros_like(label), brain((20, 20, 20))) == {"axial": 9, "coronal": 9, "sagittal": 9}


def test_nan_and_empty_volumes_are_drawn_black():
    empty = np.full((8, 8, 8), np.nan, np.float32)
    assert np.asarray(slice_picture(empty)).max() == 0
    assert np.asarray(slice_picture(np.zeros((8, 8, 8)))).max() == 0
    assert value_range(empty) == (0.0, 1.0)
    assert brain_box(empty) == (slice(0, 8),) * 3


def test_a_stamp_changes_the_picture_and_bytes_repeat():
    image = brain()
    assert slice_png(image, stamp="SYNTHETIC") != slice_png(image)
    assert slice_png(image, stamp="SYNTHETIC") == slice_png(image, stamp="SYNTHETIC")
    assert data_uri(slice_png(image)).startswith("data:image/png;base64,iVBOR")


def test_montage_and_heat_map():
    pictures = [slice_picture(brain(), plane=plane) for plane in ("axial", "coronal")]
    wide = Image.open(BytesIO(montage_png(pictures, ["a", "b"], gap=4)))
    assert wide.size == (pictures[0].width + pictures[1].width + 4, 240)
    heat = np.asarray(heat_picture(brain(), (0.0, 0.5)))
    assert heat.max() > 240
    assert not np.array_equal(heat[..., 0], heat[..., 2])


def test_other_labels_get_other_colours():
    organs = DataSpec(("t1",), {"liver": 63, "spleen": 252}, {"liver": ("liver",)})
    assert len(set(label_colours(organs).values())) == 2
