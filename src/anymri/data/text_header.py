"""Text headers of MHA and NRRD: fields read, numbers bounded, data files kept to their folder.

What both formats share; `meta_image` and `nrrd` know the fields, `text_voxels` reads what the header describes. No
native reader sees such a file: a header is text, and text from elsewhere can say anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.data.header import MAX_SPACING_ERROR, Grid, plausible
from anymri.files import inside
from anymri.types import UserError

__all__ = [
    "LPS_TO_RAS",
    "NO_DIRECTIONS",
    "Described",
    "Fields",
    "data_files",
    "in_millimetres",
    "lengths_differ",
    "numbers",
    "read_lines",
    "shown",
    "whole",
]

#: Bytes in which a text header has to end; segmentations carry long lists of names.
MAX_HEADER_BYTES = 2**20
#: Left-posterior (DICOM, ITK) to right-anterior (NIfTI) coordinates.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: What is said of an image without directions.
NO_DIRECTIONS = (
    "the header does not say how the image is oriented (it has no directions), so that left and right, and perhaps "
    "front and back, are a guess; export the image again with its orientation"
)
#: Characters of a header that a message repeats.
_SHOWN = 40
_MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "µm": 1e-3}
_REMEDY = "copy or export the file again"


class Described(NamedTuple):
    """What a text header says of its image.

    Attributes
    ----------
    shape : tuple of int
        Native shape (i, j, k).
    dtype : numpy dtype
        Type and byte order of the voxels as stored.
    grid : Grid
    packing : str
        ``"raw"``, ``"zlib"``, ``"gzip"``, ``"bzip2"``, ``"text"`` or ``"hex"``.
    files : tuple of Path
        In the order of the slices; each holds an equal share of the voxels.
    start : int
        Byte of the file at which its share begins; -1 where the share is the end of the file.
    skip_lines, skip_bytes : int
        Lines of the file, and then bytes of what is unpacked, that are passed over.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    grid: Grid
    packing: str
    files: tuple[Path, ...]
    start: int = 0
    skip_lines: int = 0
    skip_bytes: int = 0


class Fields(dict[str, str]):
    """Fields of a header, names in small letters; refusals name the file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def add(self, name: str, value: str) -> None:
        """Take a field over; one that is there twice with the same value is fine.

        Raises
        ------
        UserError
            If it is there already with another value.
        """
        if self.setdefault(name, value) != value:
            raise self.error(f"gives {shown(name)} twice, as {shown(self[name])} and as {shown(value)}")

    def need(self, name: str) -> str:
        """Value of a field that has to be there."""
        if not self.get(name):
            raise self.error(f"has no {name}")
        return self[name]

    def error(self, problem: str) -> UserError:
        """Refusal that names the file."""
        return UserError(f"{self.path}: its header {problem}; {_REMEDY}")


def shown(value: str) -> str:
    """A header's text for a message: quoted, short, in one line whatever it holds."""
    return ascii(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")


def read_lines(path: Path) -> tuple[list[str], bytes]:
    """Lines at the beginning of a file, as many as can be its header, and the bytes they were taken from."""
    try:
        with path.open("rb") as file:
            block = file.read(MAX_HEADER_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
    return [line.decode("utf-8", "replace").rstrip("\r") for line in block.split(b"\n")], block


def numbers(fields: Fields, name: str, count: int, value: str | None = None) -> NDArray[np.float64]:
    """Finite numbers of a field.

    Raises
    ------
    UserError
        If there are more or fewer, or one is no finite number.
    """
    text = fields.need(name) if value is None else value
    try:
        parts = text.split()[: count + 1] if re.fullmatch(r"[0-9eE+.\s-]*", text, re.ASCII) else []
        found = [float(part) for part in parts]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        raise fields.error(f"gives {name} as {shown(text)}, which is not {count} finite number{'s' * (count > 1)}")
    return np.array(found)


def whole(fields: Fields, name: str, count: int, least: int = 0, most: int = 2**31) -> tuple[int, ...]:
    """Whole numbers of a field, none outside of the bounds.

    Raises
    ------
    UserError
        If there are more or fewer, or one is no whole number within the bounds.
    """
    parts = fields.need(name).split()[: count + 1]
    fine = len(parts) == count and all(re.fullmatch(r"[+-]?\d{1,10}", part, re.ASCII) for part in parts)
    found = tuple(int(part) for part in parts) if fine else ()
    if not fine or not all(least <= number <= most for number in found):
        bounds = f"from {least} to {most}" if most < 2**31 else f"from {least} on"
        what = f"{count} whole numbers" if count > 1 else "a whole number"
        raise fields.error(f"gives {name} as {shown(fields[name])}, which is not {what} {bounds}")
    return found


def lengths_differ(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two voxel sizes differ by more than rounding explains."""
    return bool((np.abs(one - other) > MAX_SPACING_ERROR * np.abs(one)).any())


def in_millimetres(units: Sequence[str], affine: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """An affine in mm, and a doubt where its unit of length cannot be meant, or is unknown.

    Parameters
    ----------
    units : sequence of str
        As the header names them; empty = mm.
    affine : ndarray, shape (4, 4)
        In that unit.
    """
    names = {unit.strip().strip('"').lower() for unit in units} - {"", "none", "???"}
    if names <= {"mm"}:
        return affine, []
    name = next(iter(names)) if len(names) == 1 else ""
    factor = _MILLIMETRES.get(name)
    if factor is None:
        text = shown(" ".join(units))
        return affine, [f"the header's unit of length ({text}) is not known; read as millimetres"]
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not plausible(sizes * factor) and plausible(sizes):
        text = " x ".join(f"{size:.4g}" for size in sizes)
        return affine, [f"the header's unit is {name}, in which voxels of {text} are no scan; read as millimetres"]
    return np.diag([factor] * 3 + [1]) @ affine, []


def data_files(fields: Fields, said: str, listed: Sequence[str], shares: Mapping[int, int]) -> tuple[Path, ...]:
    """The files that hold the voxels, by the header's word for them.

    Parameters
    ----------
    fields : Fields
    said : str
        A plain name; ``LIST``, with the number of axes in each file behind it; or a pattern with one number in it, and
        the first, last and step of that number.
    listed : sequence of str
        Names that follow a ``LIST``.
    shares : mapping of int to int
        Number of axes in each file to the number of files.

    Raises
    ------
    UserError
        If a name is none of a file beside the header, or there are more or fewer than the header describes.
    """
    words = said.split()
    if words[:1] == ["LIST"] and len(words) <= 2:
        names = [name.strip() for name in listed if name.strip()]
        axes = words[1].removesuffix("D") if len(words) == 2 else "2"
    elif len(words) in (4, 5) and "%" in words[0] and all(re.fullmatch(r"-?\d{1,6}", word) for word in words[1:]):
        pattern = re.fullmatch(r"([^%]*)%(0?\d{0,2})[diu]([^%]*)", words[0])
        if pattern is None:
            raise fields.error(f"names its data files by {shown(said)}, which is no pattern with one number")
        first, last, step = (int(word) for word in words[1:4])
        axes = words[4] if len(words) == 5 else "2"
        steps = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
        names = [f"{pattern[1]}{number:{pattern[2]}d}{pattern[3]}" for number in steps[: max(shares.values()) + 1]]
    else:
        names, axes = [said], "3"
    expected = shares.get(int(axes)) if re.fullmatch(r"\d", axes) else None
    if len(names) != expected:
        wanted = "unknown number" if expected is None else str(expected)
        raise fields.error(f"names {len(names)} data files in place of {wanted}")
    return tuple(_beside(fields, name) for name in names)


def _beside(fields: Fields, name: str) -> Path:
    try:
        path = inside(fields.path.parent, name.removeprefix("./"))
    except UserError:
        raise UserError(
            f"{fields.path}: names {shown(name)} as its data file, which is no plain name of a file beside it; put the "
            "data there and name it so"
        ) from None
    if not path.is_file():
        raise UserError(f"{fields.path}: its data file {path.name} is missing; copy it, too")
    return path
