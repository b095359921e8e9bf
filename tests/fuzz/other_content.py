"""Whole files that say something else: what no reader can tell from an original.

Damage may by chance turn a file into another good one: a voxel in a format without a checksum, an origin a little
further, a line of a table less. Here each kind is held, by other readers than the program's, against the rules of its
format; a result that differs counts as silent wherever the file breaks these. docs/results/damaged-inputs.md has the
rules in words; they are fixed before a seed is tried.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import yaml

Whole = Callable[[bytes, bytes], bool]


def never(good: bytes, damaged: bytes) -> bool:
    """Of files with a checksum: every difference can be told."""
    return False


def table(good: bytes, damaged: bytes) -> bool:
    """A table as RFC 4180 has it: UTF-8, rows as long as the header, no column twice, no control characters."""
    try:
        text = damaged.decode("utf-8-sig")
        mark = "\t" if b"\t" in good else ","
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        return False
    return (
        bool(rows)
        and not any(unicodedata.category(character) == "Cc" for row in rows for cell in row for character in cell)
        and len(set(rows[0])) == len(rows[0])
        and {len(row) for row in rows} == {len(rows[0])}
    )


def strict_json(good: bytes, damaged: bytes) -> bool:
    """JSON as RFC 8259 recommends it: UTF-8, no key twice, no NaN."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    def finite(text: str) -> float:
        if not math.isfinite(float(text)):
            raise ValueError("not finite")
        return float(text)

    try:
        json.loads(damaged.decode("utf-8"), object_pairs_hook=once, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        return False
    return True


class _Once(yaml.SafeLoader):
    """Refuses a key that comes twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = loader.construct_pairs(node, deep=True)
    if len({str(key) for key, _ in pairs}) < len(pairs):
        raise yaml.YAMLError("a key comes twice")
    return dict(pairs)


_Once.add_constructor("tag:yaml.org,2002:map", _mapping)


def strict_yaml(good: bytes, damaged: bytes) -> bool:
    """One YAML document without entities, a key that comes twice or numbers that are not finite."""
    if damaged.count(b"*a") > 20:  # entities that grow: looking at them would never end
        return False
    try:
        values = yaml.load(damaged.decode("utf-8"), _Once)
    except (ValueError, yaml.YAMLError, RecursionError, TypeError):
        return False
    return not re.search(r"\b(nan|inf)\b", repr(values))


def more_work(good: bytes, damaged: bytes) -> bool:
    """A whole configuration of a run that asks for more than the good one: it may take as long as it says."""
    if not strict_yaml(good, damaged):
        return False
    return any(
        now > was for was, now in zip(*(_work(yaml.safe_load(content)) for content in (good, damaged)), strict=True)
    )


def _work(values: Any) -> tuple[float, float]:
    """Voxels that a training sees, and the product of its network's sizes; what is not said takes long."""
    try:
        training, method = values["training"], values["method"]
        seen = math.prod(training[name] for name in ("epochs", "steps_per_epoch", "batch_size"))
        seen *= math.prod(training["patch"])
        sizes = math.prod(value for value in method["config"].values() if isinstance(value, int))
    except (KeyError, TypeError, AttributeError):
        return math.inf, math.inf
    return float(seen), float(sizes)


# ------------------------------------------------------------------------------------------------------------- images

#: Voxel sizes that an image of a head can have, and the farthest that its middle lies from the origin, in mm.
_SIZES_MM, _FARTHEST_MM = (0.02, 50.0), 500.0


def plausible(affine: np.ndarray, shape: Any) -> bool:
    """Whether a head can lie so."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    return bool(
        np.isfinite(affine).all()
        and _SIZES_MM[0] <= sizes.min()
        and sizes.max() <= _SIZES_MM[1]
        and np.linalg.norm(middle) <= _FARTHEST_MM
    )


def apart(one: np.ndarray, other: np.ndarray, shape: Any) -> float:
    """Largest distance of a corner of an image between two places it may have, in mm."""
    corners = np.array([[*index, 1] for index in np.ndindex(2, 2, 2)], float) * [*(np.array(shape) - 1), 1]
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


#: Fields of a NIfTI header that tell nothing of voxels or place.
_UNREAD = {
    "descrip", "aux_file", "intent_name", "cal_max", "cal_min", "slice_duration", "toffset", "slice_code",
    "slice_start", "slice_end", "intent_code",
    "dim_info", "db_name", "data_type", "extents", "session_error", "regular",
    "glmax", "glmin", "intent_p1", "intent_p2", "intent_p3",
}  # fmt: skip


def nifti(good: bytes, damaged: bytes) -> bool:
    """Other voxels behind the same header, another scale, or another place that no second form gainsays."""
    plain = []
    for content in (good, damaged):
        try:
            plain.append(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        except (OSError, EOFError, zlib.error):
            return False
    first = nib.Nifti2Header if int.from_bytes(plain[0][:4], "little") == 540 else nib.Nifti1Header
    size = first.template_dtype.itemsize
    if len(plain[0]) != len(plain[1]) or plain[0][size : size + 4] != plain[1][size : size + 4]:
        return False
    was, now = (first(content[:size], check=False).structarr for content in plain)
    names = [name for name in was.dtype.names if was[name].tobytes() != now[name].tobytes()]
    changed = set(names)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        scale = {"scl_slope", "scl_inter"}
        if changed & scale and not (
            np.isfinite(now["scl_slope"]) and np.isfinite(now["scl_inter"]) and now["scl_slope"]
        ):
            return False
        rows, quaternion = (
            {"srow_x", "srow_y", "srow_z"},
            {"quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"},
        )
        free = set(scale)
        shape = was["dim"][1:4]
        places = [np.array([*(header[name] for name in sorted(rows)), [0, 0, 0, 1]], float) for header in (was, now)]
        # That two forms differ by less than half a voxel is told nowhere.
        if was["qform_code"] and was["sform_code"]:
            near = apart(*places, shape) < was["pixdim"][1:4].min() / 2
            sizes = np.linalg.norm(places[1][:3, :3], axis=0)
            free |= rows if near and np.allclose(sizes, was["pixdim"][1:4], rtol=0.01) else set()
        elif not was["qform_code"] and was["sform_code"]:
            lengths = np.linalg.norm(places[1][:3, :3], axis=0)
            fits = np.allclose(lengths, now["pixdim"][1:4], rtol=0.01)
            free |= rows if fits and plausible(places[1], shape) else set()
            free |= quaternion
        elif not was["sform_code"] and was["qform_code"]:
            try:
                place = first(plain[1][:size], check=False).get_qform()
            except (nib.spatialimages.HeaderDataError, ValueError, ArithmeticError):
                return False
            if plausible(place, shape):
                free |= quaternion | ({"pixdim"} if now["pixdim"][0] in (-1, 1) else set())
        sizes = {2: 1, 256: 1, 4: 2, 512: 2, 8: 4, 768: 4, 16: 4, 64: 8, 1024: 8, 1280: 8}
        if sizes.get(int(now["datatype"]), 0) * 8 == now["bitpix"] == was["bitpix"]:
            free |= {"datatype"}
        if now["dim"][0] == was["dim"][0] and np.prod(now["dim"][1:4].astype(np.int64)) == np.prod(
            was["dim"][1:4].astype(np.int64)
        ):
            free |= {"dim"} if (now["dim"][1:] >= 1).all() else set()
    return changed <= free | _UNREAD


#: Numbers that a program may have written.
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
_NUMBERS = rf"{_NUMBER}(\s+{_NUMBER})*"
#: Fields of a MetaImage or NRRD header that only this field tells, and what they may hold.
_FREE = {
    "offset": _NUMBERS, "position": _NUMBERS, "origin": _NUMBERS,
    "elementspacing": rf"(?!.*-){_NUMBERS}",
    "transformmatrix": _NUMBERS, "binarydatabyteordermsb": "true|false|[10tf]",
    "elementbyteordermsb": "true|false|[10tf]", "elementtype": "met_u?short", "dimsize": r"[1-9]\d*( [1-9]\d*){2}",
    "space origin": r"\(.*\)", "space directions": r"(\(.*\) ?){3}", "endian": "little|big",
    "type": r"(signed |unsigned )?short|u?int16",
    "space": r"left-posterior-superior|right-anterior-superior|lps|ras", "sizes": r"[1-9]\d*( [1-9]\d*){2}",
    "space units": ".*",
}  # fmt: skip
#: Fields of the formats that tell of voxels or place; every other name is one that readers pass over.
_TELLING = {
    *_FREE, "ndims", "objecttype", "binarydata", "compresseddata", "headersize", "elementdatafile", "elementsize",
    "elementnumberofchannels", "distanceunits", "elementtointensityfunctionslope", "elementtointensityfunctionoffset",
    "rotation", "orientation", "dimension", "encoding", "data file", "datafile", "line skip", "byte skip", "spacings",
    "space dimension", "units", "axis mins", "lineskip", "byteskip", "axismins",
}  # fmt: skip


def text_image(good: bytes, damaged: bytes) -> bool:
    """Other voxels behind the same header, or other values of fields that nothing else in the header gainsays."""
    sign = ":" if good.startswith(b"NRRD") else "="
    parts = [_take_apart(content, sign) for content in (good, damaged)]
    if None in parts:  # a file of voxels alone, which nothing guards
        return len(good) == len(damaged)
    (was, old), (now, new) = parts
    told = [{(name, value) for name, value in lines if name in _TELLING} for lines in (was, now)]
    fields, before = dict(told[1]), dict(told[0])
    # A field twice with two values, or one that is missing or new, is damage.
    if len(old) != len(new) or len(told[1]) > len(fields) or set(fields) != set(before):
        return False
    changed = {name for name in fields if fields[name] != before[name]}
    packed = fields.get("compresseddata", "").lower() == "true" or fields.get("encoding", "").lower() in (
        "gzip",
        "gz",
        "bzip2",
    )
    if old != new and packed:
        return False
    for name in changed:
        if not re.fullmatch(_FREE.get(name, r"\Z."), fields[name], re.I):
            return False
    shapes = [
        tuple(map(int, (lines.get("dimsize") or lines.get("sizes") or "0").split())) for lines in (before, fields)
    ]
    return math.prod(shapes[0]) == math.prod(shapes[1]) and plausible(_text_affine(fields), shapes[1])


def _text_affine(fields: dict[str, str]) -> np.ndarray:
    """Affine by the fields of a text header, in axes of its own; NaN where they are no such numbers."""
    affine = np.eye(4)
    try:
        if "space directions" in fields:
            affine[:3, :3] = np.reshape(re.findall(r"[^\s,()]+", fields["space directions"]), (3, 3)).astype(float).T
        else:
            matrix = np.reshape(fields["transformmatrix"].split(), (3, 3)).astype(float)
            affine[:3, :3] = matrix.T * np.array(fields["elementspacing"].split(), float)
        origin = next(fields[name] for name in ("offset", "position", "origin", "space origin") if name in fields)
        affine[:3, 3] = re.findall(r"[^\s,()]+", origin)
    except (KeyError, ValueError, StopIteration):
        return np.full((4, 4), np.nan)
    return affine


def _take_apart(content: bytes, sign: str) -> Any:
    """Fields of a text header, in order, and what follows it; None if there is none."""
    end = content.find(b"\n\n") if sign == ":" else content.find(b"\n", content.find(b"ElementDataFile"))
    if not content.startswith((b"NRRD", b"ObjectType")):
        return None
    end = len(content) if end < 0 else end
    pairs = [line.partition(sign) for line in content[:end].decode("latin-1").split("\n")]
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs], content[end:]


def dicom(good: bytes, damaged: bytes) -> bool:
    """Other pixels of the same number, or other values of what no other slice of the series repeats.

    A slice may also lie a tenth of the distance of two slices elsewhere, for that is how evenly they have to lie.
    """
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            was, now = (pydicom.dcmread(io.BytesIO(content)) for content in (good, damaged))
            names = {element.keyword for header in (was, now) for element in header}
            changed = {name for name in names if str(was.get(name)) != str(now.get(name))}
            if (
                len(was.PixelData) != len(now.PixelData)
                or was.file_meta.TransferSyntaxUID != now.file_meta.TransferSyntaxUID
            ):
                return False
            slope, intercept = float(now.get("RescaleSlope", 1)), float(now.get("RescaleIntercept", 0))
        except Exception:
            return False
    if not (1e-6 < slope < 1e6 and abs(intercept) < 1e6):
        return False
    free = {"PixelData", "RescaleSlope", "RescaleIntercept", "SOPInstanceUID", "InstanceNumber", ""}
    try:
        moved = np.subtract(was.ImagePositionPatient, now.ImagePositionPatient).astype(float)
        gap = float(was.SpacingBetweenSlices)
    except (AttributeError, TypeError, ValueError):
        moved, gap = np.full(3, np.inf), 1.0
    free |= {"ImagePositionPatient"} if np.linalg.norm(moved) <= 0.1 * gap else set()
    lost = {name for name in changed if name and (name in was) != (name in now)}
    return changed <= free and not lost - {"RescaleSlope", "RescaleIntercept", "SOPInstanceUID", "InstanceNumber"}


def archive(good: bytes, damaged: bytes) -> bool:
    """A whole archive of the same slices, or of those up to one end, each of which is a whole file."""
    try:
        was, now = ({e.filename: z.read(e) for e in z.infolist()} for z in (_open_zip(good), _open_zip(damaged)))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, RuntimeError):
        return False
    shown = [name for name in now if not name.rpartition("/")[2].startswith(".")]  # hidden ones are for no reader
    places = [list(was).index(name) for name in shown if name in was]
    if len(places) < len(shown) or places != list(range(places[0], places[0] + len(places)) if places else []):
        return False
    return all(now[name] == was[name] or dicom(was[name], now[name]) for name in shown)


def _open_zip(content: bytes) -> zipfile.ZipFile:
    opened = zipfile.ZipFile(io.BytesIO(content))
    if sum(entry.file_size for entry in opened.infolist()) > 2**22:
        raise ValueError("a bomb")
    return opened
