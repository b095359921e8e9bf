"""Whole files that say something else: what no reader can tell from an original.

Damage may by chance turn a file into another good one: a voxel in a format without a checksum, an origin a little
further, a line of a table less. Here each kind is held, by other readers than the program's, against the rules of its
format; a result that differs counts as silent wherever the file breaks these.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
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
    """A table as RFC 4180 has it: UTF-8, rows as long as the header, no column twice."""
    try:
        text = damaged.decode("utf-8-sig")
        mark = "\t" if b"\t" in good else ","
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        return False
    return (
        bool(rows)
        and "\0" not in text
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


# ------------------------------------------------------------------------------------------------------------- images


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
        if was["qform_code"] and was["sform_code"]:  # a shift of less than half a voxel is told nowhere
            moved = [abs(float(now[name][3]) - float(was[name][3])) for name in rows]
            turned = any((now[name][:3] != was[name][:3]).any() for name in rows)
            free |= rows if not turned and np.linalg.norm(moved) < now["pixdim"][1:4].min() / 2 else set()
        elif not was["qform_code"] and was["sform_code"]:
            lengths = np.linalg.norm([now[name][:3].astype(float) for name in sorted(rows)], axis=0)
            free |= rows if np.allclose(lengths, now["pixdim"][1:4], rtol=0.01) else set()
            free |= quaternion
        elif not was["sform_code"] and was["qform_code"]:
            free |= quaternion | (
                {"pixdim"} if (now["pixdim"][1:4] > 0).all() and now["pixdim"][0] in (-1, 1) else set()
            )
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
    "offset": _NUMBERS, "position": _NUMBERS, "origin": _NUMBERS, "centerofrotation": _NUMBERS,
    "elementspacing": rf"(?!.*-){_NUMBERS}",
    "transformmatrix": _NUMBERS, "binarydatabyteordermsb": "true|false", "elementbyteordermsb": "true|false",
    "anatomicalorientation": "[RLAPSI]{3}", "elementtype": "met_u?short", "dimsize": r"[1-9]\d*( [1-9]\d*){2}",
    "space origin": r"\(.*\)", "space directions": r"(\(.*\) ?){3}", "endian": "little|big",
    "type": r"(signed |unsigned )?short|u?int16",
    "space": r"left-posterior-superior|right-anterior-superior|lps|ras", "sizes": r"[1-9]\d*( [1-9]\d*){2}",
    "kinds": ".*",
}  # fmt: skip
#: Fields that tell nothing of voxels or place.
_COMMENTS = {"comment", "objectsubtype", "name", "content", "sampleunits", "space units", "modality"}


def text_image(good: bytes, damaged: bytes) -> bool:
    """Other voxels behind the same header, or other values of fields that nothing else in the header gainsays."""
    sign = ":" if good.startswith(b"NRRD") else "="
    parts = [_take_apart(content, sign) for content in (good, damaged)]
    if None in parts:  # a file of voxels alone, which nothing guards
        return len(good) == len(damaged)
    (was, old), (now, new) = parts
    if len(old) != len(new) or [name for name, _ in was] != [name for name, _ in now]:
        return False
    fields, changed = dict(now), [name for (name, value), (_, other) in zip(was, now, strict=True) if value != other]
    packed = fields.get("compresseddata", "").lower() == "true" or fields.get("encoding", "").lower() in (
        "gzip",
        "gz",
        "bzip2",
    )
    if old != new and packed:
        return False
    for name in set(changed) - _COMMENTS:
        if not re.fullmatch(_FREE.get(name, r"\Z."), fields[name], re.I):
            return False
    shapes = [dict(lines).get("dimsize") or dict(lines).get("sizes") or "0" for lines in (was, now)]
    return math.prod(map(int, shapes[0].split())) == math.prod(map(int, shapes[1].split()))


def _take_apart(content: bytes, sign: str) -> Any:
    """Fields of a text header, in order, and what follows it; None if there is none."""
    end = content.find(b"\n\n") if sign == ":" else content.find(b"\n", content.find(b"ElementDataFile"))
    if not content.startswith((b"NRRD", b"ObjectType")):
        return None
    end = len(content) if end < 0 else end
    pairs = [line.partition(sign) for line in content[:end].decode("latin-1").split("\n")]
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs], content[end:]


def dicom(good: bytes, damaged: bytes) -> bool:
    """Other pixels of the same number, or other values of what one slice alone tells."""
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            was, now = (pydicom.dcmread(io.BytesIO(content)) for content in (good, damaged))
            names = {element.keyword for header in (was, now) for element in header}
            changed = {name for name in names if str(was.get(name)) != str(now.get(name))}
            if (
                len(was.PixelData) != len(now.PixelData)
                or len(was) != len(now)
                or was.file_meta.TransferSyntaxUID != now.file_meta.TransferSyntaxUID
            ):
                return False
            slope, intercept = float(now.get("RescaleSlope", 1)), float(now.get("RescaleIntercept", 0))
        except Exception:
            return False
    if not (1e-6 < slope < 1e6 and abs(intercept) < 1e6):
        return False
    return changed <= {"PixelData", "RescaleSlope", "RescaleIntercept"}


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
