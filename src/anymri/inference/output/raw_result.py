"""Raw-study result: what it adds to a result, every native grid, transforms, provenance, a picture to check."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anymri.data.geometry import Geometry
from anymri.data.nifti import write_image
from anymri.data.raw.study import RawStudy
from anymri.inference.pictures import PLANES, png_bytes, slice_picture

__all__ = ["RawResult", "check_picture", "make_raw_result", "transform_text", "write_native", "write_raw"]

Array = np.ndarray[Any, Any]
#: Side of the fields of the checkerboard, in mm.
FIELD_MM = 25.0
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class RawResult:
    """Parts of a result that only raw studies have.

    Parameters
    ----------
    labels : dict of str to uint8 array
        Label map (D, H, W) on the own grid of each sequence but the reference, values of the specification.
    native : dict of str to Geometry
        These grids.
    reference : str
        Sequence on whose grid the result is.
    brain_mask : bool array, shape (D, H, W)
        On the grid of the reference.
    reference_grid : Geometry
    matrices : dict of str to ndarray, shape (4, 4)
        File stem to world matrix (RAS+, mm), in the direction that resampling needs.
    provenance : dict
    picture : bytes
        PNG.
    """

    labels: dict[str, Array]
    native: dict[str, Geometry]
    reference: str
    brain_mask: Array
    reference_grid: Geometry
    matrices: dict[str, Array]
    provenance: dict[str, Any]
    picture: bytes


def make_raw_result(study: RawStudy, labels: dict[str, Array]) -> RawResult:
    """Collect what `write_raw` writes.

    Parameters
    ----------
    study : RawStudy
    labels : dict of str to uint8 array
        Label maps on the grids of the sequences, without that of the reference.
    """
    inverse = np.linalg.inv(study.grid_to_native[study.reference])
    matrices = {f"aligned_to_{code}": matrix for code, matrix in study.grid_to_native.items()}
    matrices |= {
        f"{study.reference}_to_{code}": matrix @ inverse
        for code, matrix in study.grid_to_native.items()
        if code != study.reference
    }
    if study.mni_to_reference is not None:
        matrices[f"mni_to_{study.reference}"] = study.mni_to_reference
    return RawResult(
        labels=labels,
        native={code: study.native[code] for code in labels},
        reference=study.reference,
        brain_mask=study.to_native(study.brain_mask.astype(np.float32), study.reference) > 0.5,
        reference_grid=study.native[study.reference],
        matrices=matrices,
        provenance=study.provenance,
        picture=check_picture(study),
    )


def write_native(raw: RawResult, folder: Path, table: Array) -> None:
    """Write the folder ``native`` of a result: the segmentation on the other sequences' own grids.

    Parameters
    ----------
    raw : RawResult
    folder : Path
        Of the result.
    table : int array, shape (256,) or more
        Value in the specification to value in the file.
    """
    for code, label in raw.labels.items():
        (folder / "native").mkdir(exist_ok=True)
        write_image(folder / "native" / f"{code}_segmentation.nii.gz", table[label], raw.native[code], table.dtype)


def write_raw(raw: RawResult, folder: Path) -> None:
    """Write the folder ``raw`` of a result: how the study was prepared.

    Parameters
    ----------
    raw : RawResult
    folder : Path
        Of the result.
    """
    (folder / "raw").mkdir()
    write_image(folder / "raw" / "brain_mask.nii.gz", raw.brain_mask, raw.reference_grid, np.uint8)
    for stem, matrix in raw.matrices.items():
        (folder / "raw" / f"{stem}.tfm").write_text(transform_text(matrix), encoding="utf-8", newline="\n")
    text = json.dumps(raw.provenance, indent=2, sort_keys=True, allow_nan=False) + "\n"
    (folder / "raw" / "provenance.json").write_text(text, encoding="utf-8", newline="\n")
    (folder / "raw" / "check.png").write_bytes(raw.picture)


def transform_text(matrix: Array) -> str:
    """A world matrix (RAS+) as the text of an ITK transform file (LPS), as SimpleITK, ANTs and 3D Slicer read it."""
    lps = _FLIP @ matrix @ _FLIP
    numbers = " ".join(repr(float(value)) for value in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def check_picture(study: RawStudy) -> bytes:
    """PNG to check a study by eye: one row per sequence, each with the outline of the brain mask.

    Every other row of pictures is a checkerboard of the sequence and the reference, where edges must go on across
    the fields.
    """
    spacing = study.grid.spacing_mm
    box = tuple(_around(study.brain_mask, axis, spacing[axis]) for axis in range(3))
    middle = {plane: (box[axis].start + box[axis].stop) // 2 for plane, axis in PLANES.items()}
    reference = _grey(study, study.reference)
    board = _board(study.grid)
    rows = []
    for code in study.heads:
        image = _grey(study, code)
        drawn: list[tuple[Array, Array | None]] = [(image, study.brain_mask.astype(np.uint8))]
        if code != study.reference:
            drawn.append((np.where(board, image, reference), None))
        for shown, label in drawn:
            options: dict[str, Any] = {"spacing_mm": spacing, "box": box, "limits": (0.0, 1.0), "height": 220}
            rows.append(
                [
                    slice_picture(shown, label, plane=plane, index=middle[plane], stamp=code, **options)
                    for plane in PLANES
                ]
            )
    width = max(sum(picture.width for picture in row) + 4 * (len(row) - 1) for row in rows)
    canvas = Image.new("RGB", (width, 224 * len(rows) - 4))
    for number, row in enumerate(rows):
        left = 0
        for picture in row:
            canvas.paste(picture, (left, 224 * number))
            left += picture.width + 4
    return png_bytes(canvas)


def _grey(study: RawStudy, code: str) -> Array:
    """Head scaled so that the brain fills most of the grey range; never exactly 0 where the sequence reaches."""
    head = study.heads[code]
    inside = head[study.brain_mask]
    high = float(np.percentile(inside, 99)) * 1.15 if inside.size else float(head.max())
    return np.clip(head / max(high, 1e-6), 0, 1)


def _around(brain: Array, axis: int, spacing_mm: float) -> slice:
    """Range of the brain along an axis with room for the skull."""
    filled = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
    low, high = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, brain.shape[axis])
    margin = round(18 / spacing_mm)
    return slice(max(0, low - margin), min(brain.shape[axis], high + margin))


def _board(grid: Geometry) -> Array:
    """Checkerboard in all three directions."""
    places = [
        (np.arange(size) * step // FIELD_MM).astype(int)
        for size, step in zip(grid.shape_dhw, grid.spacing_mm, strict=True)
    ]
    return (places[0][:, None, None] + places[1][None, :, None] + places[2][None, None, :]) % 2 == 0
