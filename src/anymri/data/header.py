"""Voxel grid of a NIfTI header: mended where other readers mend it, doubted where it contradicts itself.

Everything that was mended or doubted becomes a sentence. What cannot be a scan at all is refused by `check_affine`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from anymri.types import UserError

__all__ = [
    "MAX_VOXELS", "Grid", "check_affine", "check_size", "doubt_angles", "doubt_place", "mend_header", "plausible",
    "read_grid", "unit_mm", "working_bytes",
]  # fmt: skip

#: Largest volume that is read, in voxels (about 645 cubed).
MAX_VOXELS = 2**28

#: What is said of a file without an orientation.
ORIENTATION_UNKNOWN = (
    "the header does not say how the image is oriented (qform_code and sform_code are 0), so that left and right, and "
    "perhaps front and back, are a guess; export the image again with its orientation"
)
#: Millimetres in the units of length that `xyzt_units` names.
UNITS = {1: ("metre", 1e3), 2: ("millimetre", 1.0), 3: ("micrometre", 1e-3)}
#: Voxel sizes that a scan of a head can have, in mm; decides whether a unit can be meant.
SCAN_SPACING_MM = (0.02, 50.0)
#: Part of its length by which a voxel may differ between two fields; a head of 200 mm is then 2 mm longer or shorter.
MAX_SPACING_ERROR = 0.01
#: Largest code of a form: a template other than Talairach's and MNI's.
MAX_FORM_CODE = 5
#: Largest angle in degrees by which two axes may be off a right one without a word.
MAX_ANGLE_ERROR = 1.0
#: Farthest in mm that the middle of an image can lie from the world's origin without a word. Scanners count from the
#: middle of the magnet, in which no field of view is wider than that; templates count from the middle of the brain, and
#: files without an origin from a corner of the image.
MAX_DISTANCE_MM = 500.0
#: What is said of a file with anything behind its voxels.
MORE_DATA = "the file holds more data than its header promises; the rest was not read"
#: Bytes a voxel that reading takes beside the voxels as stored: as single precision, in order, and repaired.
WORKING_BYTES = 12
#: Excess of a quaternion's length over 1 that rounding in the writing program explains.
MAX_QUATERNION_ERROR = 0.01


class Grid(NamedTuple):
    """Where the voxels of a file lie.

    Attributes
    ----------
    affine : ndarray of float64, shape (4, 4)
        Voxel index to world position in mm; NaN where the header holds no usable one.
    known : bool
        Whether the header says so, or it is a guess.
    notes : tuple of str
        What was mended or contradicts itself.
    dicom : anymri.data.dicom.DicomSource or None, default=None
        Slices it was read from, of a DICOM series.
    """

    affine: NDArray[np.float64]
    known: bool
    notes: tuple[str, ...] = ()
    dicom: Any = None


def unit_mm(header: Any) -> float:
    """Millimetres in the header's unit of length; 1 where it names none."""
    return UNITS.get(int(header["xyzt_units"]) % 8, ("", 1.0))[1]


def mend_header(header: Any) -> list[str]:
    """Mend, in place, what nibabel and niftilib mend too; what was mended, a sentence each.

    Parameters
    ----------
    header : Nifti1Header or Nifti2Header
        Parsed without checks.
    """
    notes = _mend_codes(header)
    first = header.single_vox_offset
    if not first <= header["vox_offset"] < np.inf:  # NaN is not, either
        notes.append(f"the header's vox_offset ({header['vox_offset']:g}) is damaged; voxels were read from {first} on")
        header["vox_offset"] = first
    further = header["dim"][4:]
    further[further == 0] = 1
    sizes, length = header["pixdim"], np.linalg.norm(_stored_sform(header)[:3, :3], axis=0)
    bad = ~np.isfinite(sizes[1:4]) | (sizes[1:4] <= 0)
    if bad.any():
        text = _numbers(sizes[1:4])
        sizes[1:4] = np.where(bad, length if header["sform_code"] else np.abs(sizes[1:4]), sizes[1:4])
        sizes[1:4][~(sizes[1:4] > 0)] = 1
        notes.append(f"the header's voxel size ({text}) is damaged; {_numbers(sizes[1:4])} was taken")
    if sizes[0] not in (-1, 1):
        if header["qform_code"] and not header["sform_code"]:
            notes.append(
                f"the header's qfac ({sizes[0]:g}) is neither 1 nor -1 and was read as 1; if that is wrong, the slices "
                "are in reverse order and the image is mirrored"
            )
        sizes[0] = 1
    sizes[4:][~np.isfinite(sizes[4:])] = 0
    notes += _doubt_bits(header)
    if np.isinf(header["scl_slope"]):  # NaN is what programs write that know no scale factor
        notes.append(f"the header's scale factor ({header['scl_slope']:g}) is damaged; values were read as stored")
    notes += _mend_quaternion(header)
    return notes


def _mend_codes(header: Any) -> list[str]:
    """Make codes of the forms that do not exist 1, or 0 where they are negative."""
    notes = []
    for name in ("qform_code", "sform_code"):
        code = int(header[name])
        if not 0 <= code <= MAX_FORM_CODE:
            header[name] = int(code > 0)
            notes.append(f"the header's {name} ({code}) does not exist; it was read as {int(code > 0)}")
    return notes


def _doubt_bits(header: Any) -> list[str]:
    """A doubt where the header gives two types of voxels."""
    try:
        bits = 8 * int(header.get_data_dtype().itemsize)
    except (HeaderDataError, KeyError):
        return []  # no type that is read
    if int(header["bitpix"]) in (bits, 0):
        return []
    other = f"{bits} bits by its datatype, which was used, and {header['bitpix']} by its bitpix"
    return [f"the header gives two sizes of a value, {other}; values may be wrong"]


def _mend_quaternion(header: Any) -> list[str]:
    """Bring a rounded quaternion back to length 1; drop a damaged qform where the sform can stand for it."""
    if np.isfinite(_qform(header)).all():
        return []
    names = ("quatern_b", "quatern_c", "quatern_d")
    vector = np.array([float(header[name]) for name in names])
    length = float(np.linalg.norm(vector))
    if 1 < length < 1 + MAX_QUATERNION_ERROR:
        for name, value in zip(names, vector / length, strict=True):
            header[name] = np.nextafter(np.float32(value), np.float32(0))
        return []
    used = bool(header["qform_code"])
    if used and not header["sform_code"]:
        return []  # the only orientation there is; check_affine refuses it
    for name in ("qform_code", *names, "qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = 0
    return ["the header's qform is damaged; the sform was used"] if used else []


def read_grid(header: Any, shape: tuple[int, ...]) -> Grid:
    """Affine of a mended header in mm, and what speaks against it.

    Parameters
    ----------
    header : Nifti1Header or Nifti2Header
        From `mend_header`; a unit that cannot be meant, and a damaged sform beside a qform, are mended in place.
    shape : tuple of int
        Native shape (i, j, k).
    """
    notes = []
    if header["sform_code"] and header["qform_code"] and not _usable(_stored_sform(header)):
        notes.append("the header's sform is damaged; the qform was used")
        header["sform_code"] = 0
        for name in ("srow_x", "srow_y", "srow_z"):
            header[name] = 0
    if not header["sform_code"] and not header["qform_code"]:
        notes.append(ORIENTATION_UNKNOWN)
    affine = _best_affine(header)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    factor = unit_mm(header)
    if factor != 1 and not plausible(sizes * factor) and plausible(sizes):
        name = UNITS[int(header["xyzt_units"]) % 8][0]
        notes.append(
            f"the header's unit is {name}, in which voxels of {_numbers(sizes)} are no scan; read as millimetres"
        )
        header["xyzt_units"] = int(header["xyzt_units"]) // 8 * 8 + 2
        factor = 1
    if header["sform_code"]:
        notes += _contradictions(header, affine, shape, factor)
    affine = affine.copy()
    affine[:3] *= factor
    return Grid(affine, bool(header["sform_code"] or header["qform_code"]), tuple(notes))


def _contradictions(header: Any, sform: NDArray[np.float64], shape: tuple[int, ...], factor: float) -> list[str]:
    """Fields that disagree with the sform in use."""
    notes = []
    sizes, other = np.linalg.norm(sform[:3, :3], axis=0), header["pixdim"][1:4].astype(float)
    if (np.abs(sizes - other) > MAX_SPACING_ERROR * sizes).any():
        notes.append(
            f"the header gives two voxel sizes, {_numbers(sizes * factor)} mm by its sform, which was used, and "
            f"{_numbers(other * factor)} mm by its pixdim; distances and volumes may be wrong"
        )
    if not header["qform_code"]:
        return notes
    qform = _qform(header)
    if not _usable(qform):
        return notes
    corners = np.array([[*index, 1] for index in product(*((0, size - 1) for size in shape[:3]))], float)
    apart = np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max()
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        notes.append("the header's sform, which was used, and qform mirror each other; left and right may be swapped")
    elif apart > sizes.min() / 2:
        notes.append(
            f"the header's sform, which was used, and qform place the image up to {apart * factor:.1f} mm apart; "
            "programs that use the qform will show the result elsewhere"
        )
    return notes


def check_affine(source: str, affine: NDArray[np.float64]) -> None:
    """Refuse an affine that cannot be the geometry of a scan.

    Raises
    ------
    UserError
        If it is not finite, singular, heavily sheared, or has voxels or a place that no scan has.
    """
    remedy = "repair its header or export the file again"
    if not np.isfinite(affine).all():
        raise UserError(f"{source}: its affine is not made of finite numbers; {remedy}")
    if not _usable(affine):
        raise UserError(f"{source}: its affine is singular or heavily sheared; {remedy}")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < 1e-2 or spacing.max() > 100 or np.abs(affine[:3, 3]).max() > 1e5:
        raise UserError(f"{source}: its affine is not plausible (voxels of {_numbers(spacing)} mm); {remedy}")


def doubt_angles(affine: NDArray[np.float64]) -> tuple[str, ...]:
    """A doubt where the axes of an affine are not at right angles, as when a gantry was tilted.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Accepted by `check_affine`.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    off = np.degrees(np.arcsin(np.clip(np.abs(axes.T @ axes - np.eye(3)).max(), 0, 1)))
    if off <= MAX_ANGLE_ERROR:
        return ()
    text = f"its axes are up to {off:.1f} degrees off right angles, as from a tilted gantry"
    return (f"{text}; shapes and distances may be wrong",)


def doubt_place(affine: NDArray[np.float64], shape: Sequence[int]) -> tuple[str, ...]:
    """A doubt where an image lies where no head can: its origin is damaged, or says something of its own.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Accepted by `check_affine`.
    shape : sequence of int
        Native shape (i, j, k).
    """
    middle = affine[:3, :3] @ ((np.array(shape[:3]) - 1) / 2) + affine[:3, 3]
    distance = float(np.linalg.norm(middle))
    if distance <= MAX_DISTANCE_MM:
        return ()
    far = f"by its header the middle of the image lies {distance / 1000:.3g} m from the origin, farther than a head can"
    return (f"{far} in a scanner; the result lies there too, and other programs may not show it on other images",)


def check_size(source: str, size: Sequence[int], components: int, max_voxels: int) -> tuple[int, int, int]:
    """Size of one greyscale volume.

    Raises
    ------
    UserError
        If it is none, or larger than `max_voxels`.
    """
    text = " x ".join(str(n) for n in size)
    if components != 1:
        raise UserError(f"{source}: has {components} values a voxel; give a plain greyscale volume")
    if len(size) != 3 or min(size) < 2:
        raise UserError(f"{source}: is not a volume ({text}); give one 3D volume")
    if math.prod(size) > max_voxels:
        raise UserError(f"{source}: its header promises {text} voxels, more than are read; crop or resample it")
    return size[0], size[1], size[2]


def working_bytes(shape: tuple[int, int, int], itemsize: int) -> int:
    """Memory, in bytes, that reading a volume takes; known before anything is allocated."""
    return math.prod(shape) * (itemsize + WORKING_BYTES)


def _usable(affine: NDArray[np.float64]) -> bool:
    """Whether the axes of an affine are finite, not 0 and roughly at right angles."""
    if not np.isfinite(affine).all():
        return False
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(sizes.min() > 0 and abs(np.linalg.det(affine[:3, :3] / sizes)) >= 0.5)


def plausible(sizes_mm: NDArray[np.float64]) -> bool:
    """Whether voxels can have these sizes in a scan of a head."""
    return bool(sizes_mm.min() >= SCAN_SPACING_MM[0] and sizes_mm.max() <= SCAN_SPACING_MM[1])


def _stored_sform(header: Any) -> NDArray[np.float64]:
    return np.array([header["srow_x"], header["srow_y"], header["srow_z"], [0, 0, 0, 1]], np.float64)


def _qform(header: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError, ArithmeticError):
        return np.full((4, 4), np.nan)


def _best_affine(header: Any) -> NDArray[np.float64]:
    """Affine as nibabel chooses it; all NaN if the header describes none."""
    try:
        return np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError, ArithmeticError):
        return np.full((4, 4), np.nan)


def _numbers(values: NDArray[Any]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
