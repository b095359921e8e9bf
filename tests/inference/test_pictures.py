"""Pictures: orientation, colours, stamps, the same bytes each time."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from anymri.inference.pictures import (
    HEAT,
    axial_sheet,
    brain_box,
    colour_hex,
    contour_picture,
    data_uri,
    heat_picture,
    label_colours,
    largest_component,
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
    label[7, ::2, ::2] = 1  # more voxels than any slice of the lesion has, but none touches another
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


def test_a_heat_map_leaves_the_anatomy_to_be_seen():
    image, value = brain(), np.zeros((20, 24, 28), np.float32)
    value[8:12, 8:14, 4:12], value[8:12, 8:14, 16:24] = 0.05, 1.0
    options = {"plane": "axial", "index": 10, "box": brain_box(image), "limits": (0.0, 1.0)}
    plain = np.asarray(slice_picture(image, **options), int)
    drawn = np.asarray(heat_picture(image, value, from_value=0.1, **options), int)
    changed = (plain != drawn).any(-1)
    right, left = np.split(changed, 2, axis=1)[::-1]  # the last columns of the volume are on the left of the picture
    assert left.any()
    assert not right.any(), "below from_value nothing is drawn"
    strongest = drawn[changed].max(axis=0)
    np.testing.assert_allclose(strongest, 0.3 * 127 + 0.7 * np.array(HEAT[-1]), atol=3)


def test_the_largest_component_joins_by_corners():
    inside = np.zeros((6, 7, 8), bool)
    inside[0, 0, 0] = inside[1, 1, 1] = inside[2, 2, 2] = True
    inside[5, 5, 5:7] = True
    found = largest_component(inside)
    assert found.sum() == 3
    assert found[1, 1, 1]
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()


def test_contours_are_transparent_where_there_is_no_line():
    label = np.zeros((4, 20, 20), np.uint8)
    label[1, 4:16, 4:16] = 2
    box = (slice(0, 4), slice(0, 20), slice(0, 20))
    drawn = np.asarray(contour_picture(label, index=1, box=box, size=(40, 40)))
    line = drawn[..., 3] > 0
    assert (drawn[line][:, :3] == label_colours()["edema"]).all()
    assert not line[20, 20]
    assert line[8, 20]
    assert not line[0, 0]


def test_a_sheet_holds_the_slices_in_rows():
    tiles = [Image.new("L", (3, 2), grey) for grey in (10, 20, 30)]
    sheet = np.asarray(axial_sheet(tiles, columns=2))
    assert sheet.shape == (4, 6)
    assert [sheet[0, 0], sheet[0, 3], sheet[2, 0], sheet[2, 3]] == [10, 20, 30, 0]


def test_montage():
    pictures = [slice_picture(brain(), plane=plane) for plane in ("axial", "coronal")]
    wide = Image.open(BytesIO(montage_png(pictures, ["a", "b"], gap=4)))
    assert wide.size == (pictures[0].width + pictures[1].width + 4, 240)


def test_other_labels_get_other_colours():
    organs = DataSpec(("t1",), {"liver": 63, "spleen": 252}, {"liver": ("liver",)})
    assert len(set(label_colours(organs).values())) == 2
