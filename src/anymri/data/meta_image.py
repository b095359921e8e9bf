"""MetaImage headers (.mha, .mhd): fields, geometry and where the voxels are.

Source: itk.org/Wiki/ITK/MetaIO/Documentation. ITK reads the same from files in order; the tests compare.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.header import Grid, check_size
from anymri.data.text_header import (
    LPS_TO_RAS,
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

__all__ = ["read_meta_header"]

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
#: Other spellings of a field.
_SAME = {
    "rotation": "transformmatrix", "orientation": "transformmatrix", "position": "offset", "origin": "offset",
    "elementbyteordermsb": "binarydatabyteordermsb",
}  # fmt: skip
#: Fields that are read; what others say, twice or not, does not matter.
_READ = (
    "ndims", "dimsize", "elementnumberofchannels", "elementtype", "binarydatabyteordermsb", "compresseddata",
    "binarydata", "headersize", "elementdatafile", "elementspacing", "elementsize", "transformmatrix", "offset",
    "distanceunits", "elementtointensityfunctionslope", "elementtointensityfunctionoffset",
)  # fmt: skip


def read_meta_header(path: Path, max_voxels: int) -> Described:
    """Read the header of a MetaImage file.

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
    axes = whole(fields, "ndims", 1, 1, 16)[0]
    size = whole(fields, "dimsize", axes)
    components = whole(fields, "elementnumberofchannels", 1, 1)[0] if "elementnumberofchannels" in fields else 1
    shape = check_size(str(path), size, components, max_voxels)
    kind = fields.need("elementtype").upper()
    if kind not in _TYPES:
        raise fields.error(f"gives the type of its voxels as {shown(kind)}, which is no plain number")
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if _flag(fields, "binarydatabyteordermsb") else "<")
    packed = _flag(fields, "compresseddata")
    packing = "zlib" if packed else "raw" if _flag(fields, "binarydata", True) else "text"
    start = whole(fields, "headersize", 1, -1)[0] if "headersize" in fields else 0
    if start == -1 and packing != "raw":
        raise fields.error("has voxels at the end of packed data")
    said = fields.need("elementdatafile")
    files: tuple[Path, ...] = (path,)
    if said.lower() == "local":
        start = end
    else:
        files = data_files(fields, said, listed, {1: shape[1] * shape[2], 2: shape[2], 3: 1})
    return Described(shape, dtype, _grid(fields), packing, files, start)


def _read_fields(path: Path) -> tuple[Fields, list[str], int]:
    """Fields, the lines behind them, and the byte at which voxels in the same file begin."""
    lines, block = read_lines(path)
    fields, end = Fields(path), 0
    for number, line in enumerate(lines):
        end = block.find(b"\n", end) + 1
        name, sign, value = line.partition("=")
        if not sign or not name.strip():
            break
        name = name.strip().lower()
        if (name := _SAME.get(name, name)) in _READ:
            fields.add(name, value.strip())
        if name == "elementdatafile":
            return fields, lines[number + 1 :], end or len(block)
    raise UserError(f"{path}: is damaged or of another format; copy or download the file again")


def _flag(fields: Fields, name: str, default: bool = False) -> bool:
    value = fields.get(name, str(default)).lower()
    if value not in ("true", "false", "1", "0", "t", "f"):
        raise fields.error(f"gives {name} as {shown(value)}, which is neither True nor False")
    return value in ("true", "1", "t")


def _grid(fields: Fields) -> Grid:
    notes = []
    name = next((name for name in ("elementspacing", "elementsize") if name in fields), None)
    spacing = np.ones(3) if name is None else numbers(fields, name, 3)
    if name is None:
        notes.append("the header gives no voxel size; 1 x 1 x 1 mm was taken, distances and volumes may be wrong")
    elif not spacing.all():
        raise fields.error(f"gives {name} as {shown(fields[name])}: a voxel has a size")
    known = "transformmatrix" in fields
    axes = numbers(fields, "transformmatrix", 9).reshape(3, 3).T if known else np.eye(3)
    if not known:
        notes.append(NO_DIRECTIONS)
    if (spacing < 0).any():
        text = fields[name or ""]
        notes.append(f"the header has a negative voxel size ({text}), read as a mirrored axis; check left and right")
    notes += _long_axes(axes)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = numbers(fields, "offset", 3) if "offset" in fields else 0
    affine, doubts = in_millimetres([fields.get("distanceunits", "mm")], affine)
    scale = "elementtointensityfunction"
    slope, offset = fields.get(f"{scale}slope", "1"), fields.get(f"{scale}offset", "0")
    if (numbers(fields, f"{scale}slope", 1, slope), numbers(fields, f"{scale}offset", 1, offset)) != (1, 0):
        doubts.append("the header has a scale factor, which programs do not agree upon; values were read as stored")
    return Grid(LPS_TO_RAS @ affine, known, (*notes, *doubts))


def _long_axes(axes: NDArray[np.float64]) -> list[str]:
    lengths = np.linalg.norm(axes, axis=0)
    if not lengths_differ(np.ones(3), lengths):
        return []
    text = " x ".join(f"{length:.4g}" for length in lengths)
    return [f"the header's directions have lengths of {text} in place of 1; distances and volumes may be wrong"]
