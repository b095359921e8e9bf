"""NRRD headers (.nrrd, .nhdr): fields, geometry and where the voxels are.

Source: teem.sourceforge.net/nrrd/format.html. ITK reads the same from files in order; the tests compare.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.header import Grid, check_size
from anymri.data.text_header import (
    LPS_TO_RAS,
    MAX_HEADER_BYTES,
    NO_DIRECTIONS,
    Described,
    Fields,
    data_files,
    in_millimetres,
    lengths_differ,
    numbers,
    read_lines,
    shown,
    whole,
)  # fmt: skip
from anymri.types import UserError

__all__ = ["read_nrrd_header"]

_NAMES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPES = {name: code for code, names in _NAMES.items() for name in names}
_PACKINGS = {
    "raw": "raw", "txt": "text", "text": "text", "ascii": "text", "hex": "hex", "gz": "gzip", "gzip": "gzip",
    "bz2": "bzip2", "bzip2": "bzip2",
}  # fmt: skip
#: Directions of x, y and z in our left-posterior-superior terms; other spaces say nothing of the patient.
_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1), "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1), "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
#: Other spellings of a field.
_SAME = {
    "datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins",
    "centers": "centerings",
}  # fmt: skip
#: Kinds of an axis along which voxels lie; any other holds the values of one voxel.
_PLACES = ("domain", "space", "???", "none")


def read_nrrd_header(path: Path, max_voxels: int) -> Described:
    """Read the header of an NRRD file.

    Parameters
    ----------
    path : Path
    max_voxels : int
        Larger volumes are refused.

    Raises
    ------
    UserError
        If it is none, contradicts itself, or does not describe one greyscale volume.
    """
    fields, listed, end = _read_fields(path)
    axes = whole(fields, "dimension", 1, 1, 16)[0]
    size = whole(fields, "sizes", axes)
    kinds = fields.get("kinds", " ".join(["???"] * axes)).lower().split()
    if len(kinds) != axes:
        raise fields.error(f"gives {len(kinds)} kinds of {axes} axes")
    places = [axis for axis, kind in enumerate(kinds) if kind in _PLACES]
    directions = _directions(fields, axes)
    if directions is not None and [axis for axis in range(axes) if directions[axis] is not None] != places:
        places = [axis for axis in range(axes) if directions[axis] is not None]
        if "kinds" in fields:
            raise fields.error("has directions that do not fit the kinds of its axes")
    components = int(np.prod([size[axis] for axis in range(axes) if axis not in places], dtype=object))
    shape = check_size(str(path), [size[axis] for axis in places], components, max_voxels)
    kind = _TYPES.get(fields.need("type").lower())
    packing = _PACKINGS.get(fields.need("encoding").lower())
    if kind is None or packing is None:
        wrong = "type" if kind is None else "encoding"
        raise fields.error(f"gives its {wrong} as {shown(fields[wrong])}, which is not read")
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and kind[1] != "1" and packing != "text":
        raise fields.error(f"gives the order of bytes as {shown(endian)}, not as little or big")
    dtype = np.dtype(kind).newbyteorder(">" if endian == "big" else "<")
    lines, skipped = (
        whole(fields, name, 1, least)[0] if name in fields else 0
        for name, least in (("line skip", 0), ("byte skip", -1))
    )
    files: tuple[Path, ...] = (path,)
    start = end
    if "data file" in fields:
        start, files = 0, data_files(fields, fields["data file"], listed, {2: shape[2], 3: 1})
    elif path.suffix.lower() == ".nhdr":
        raise fields.error("names no data file")
    if skipped == -1:
        if packing != "raw":
            raise fields.error("skips -1 bytes of packed data")
        start, skipped = -1, 0
    grid = _grid(fields, [None if directions is None else directions[axis] for axis in places], places)
    return Described(shape, dtype, grid, packing, files, start, lines, skipped)


def _read_fields(path: Path) -> tuple[Fields, list[str], int]:
    """Fields, the lines behind them, and the byte at which voxels in the same file begin."""
    lines, block = read_lines(path)
    if not re.fullmatch(r"NRRD000[1-5]", lines[0]):
        raise UserError(f"{path}: is damaged or of another format; copy or download the file again")
    fields, end, detached = Fields(path), 0, False
    for number, line in enumerate(lines):
        end = block.find(b"\n", end) + 1
        if number == 0 or line.startswith("#"):
            continue
        if not line.strip():
            return fields, [], end or len(block)
        name, sign, value = line.partition(":")
        if not sign:
            raise fields.error(f"has a line that is no field ({shown(line)})")
        if value.startswith("="):  # a remark
            continue
        name = " ".join(name.lower().split())
        fields.add(_SAME.get(name, name), value.strip())
        if "data file" in fields:
            detached = True
            if fields["data file"].split()[:1] == ["LIST"]:
                return fields, lines[number + 1 :], 0
    if detached and len(block) < MAX_HEADER_BYTES:  # a header alone may end with its file
        return fields, [], 0
    raise fields.error("does not end")


def _directions(fields: Fields, axes: int) -> list[NDArray[np.float64] | None] | None:
    """Step along each axis, None for one along which no voxels lie; None where the header gives none."""
    text = fields.get("space directions")
    if text is None:
        return None
    found = re.findall(r"none|\([^()]*\)", text)
    if len(found) != axes or re.sub(r"none|\([^()]*\)", "", text).strip():
        raise fields.error(f"gives space directions as {shown(text)}, which are not those of {axes} axes")
    return [
        None if part == "none" else numbers(fields, "space directions", 3, part[1:-1].replace(",", " "))
        for part in found
    ]


def _grid(fields: Fields, directions: list[NDArray[np.float64] | None], places: list[int]) -> Grid:
    space = fields.get("space", "").lower().removesuffix("-time").removesuffix("t")
    if "space dimension" in fields and whole(fields, "space dimension", 1)[0] != 3:
        raise fields.error("has a space that is not 3D")
    notes, affine = [], np.eye(4)
    given = all(step is not None for step in directions)
    spacing = _spacing(fields, places)
    if given:
        affine[:3, :3] = np.transpose([step for step in directions if step is not None])
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing is not None and lengths_differ(sizes, np.abs(spacing)):
            used, other = (" x ".join(f"{size:.4g}" for size in both) for both in (sizes, spacing))
            notes.append(
                f"the header gives two voxel sizes, {used} by its space directions, which were used, and {other} by "
                "its spacings; distances and volumes may be wrong"
            )
    elif spacing is not None:
        affine[:3, :3] *= spacing
        if (spacing < 0).any():
            text = fields["spacings"]
            notes.append(
                f"the header has a negative voxel size ({text}), read as a mirrored axis; check left and right"
            )
    else:
        notes.append("the header gives no voxel size; 1 x 1 x 1 mm was taken, distances and volumes may be wrong")
    if "space origin" in fields:
        affine[:3, 3] = numbers(fields, "space origin", 3, re.sub(r"[(),]", " ", fields["space origin"]))
    known = given and space in _SPACES
    if not known:
        notes.append(NO_DIRECTIONS)
    affine = np.diag([*_SPACES.get(space, (1, 1, 1)), 1]) @ affine
    units = fields.get("space units", fields.get("units", "") if not given else "")
    affine, doubts = in_millimetres(units.replace('"', " ").split(), affine)
    return Grid(LPS_TO_RAS @ affine, known, (*notes, *doubts))


def _spacing(fields: Fields, places: list[int]) -> NDArray[np.float64] | None:
    """Voxel size along the three axes, or None where the header gives none."""
    parts = fields.get("spacings", "").split()
    if not parts or (len(parts) > max(places) and all(parts[axis].lower() == "nan" for axis in places)):
        return None
    chosen = " ".join(parts[axis] for axis in places if axis < len(parts))
    spacing = numbers(fields, "spacings", 3, chosen)
    if not spacing.all():
        raise fields.error(f"gives spacings as {shown(fields['spacings'])}: a voxel has a size")
    return spacing
