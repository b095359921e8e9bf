"""Damage to images: NIfTI, MetaImage, NRRD, DICOM and archives of DICOM, by the fields of their headers."""

from __future__ import annotations

import gzip
import io
import math
import struct
import warnings
import zipfile
import zlib
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
from damage import REALS, WHOLE_NUMBERS, damage_bytes, flip_bits

#: Values of fields in text headers.
WORDS = (
    "", "0", "1", "-1", "2", "3", "4", "99", "nan", "inf", "-inf", "1e999", "0 0 0", "1 1 1", "-1 1 1", "1 1",
    "1 1 1 1 1", "nan 1 1",
    "1e-30 1 1", "100000 100000 100000", "65536 65536 2", "-24 20 16", "2147483648 1 1", "99999999999999999999 2 2",
    "True", "False", "None",
    "MET_UCHAR", "MET_SHORT", "MET_USHORT", "MET_DOUBLE", "MET_FLOAT_ARRAY", "MET_STRING", "MET_OTHER", "LOCAL",
    "LIST", "../x.raw",
    "/etc/passwd", "/dev/zero", "no.raw", "x%03d.raw 1 16 1", "raw", "gzip", "bzip2", "hex", "ascii", "short",
    "float", "double", "block", "uchar",
    "little", "big", "(1,0,0) (0,1,0) (0,0,1)", "(0,0,0) (0,0,0) (0,0,0)", "(nan,0,0) (0,1,0) (0,0,1)",
    "none (0,1,0) (0,0,1)", "(-1,0,0) (0,1,0) (0,0,1)",
    "left-posterior-superior", "right-anterior-superior", "scanner-xyz", "x" * 70000, "\u00e4", "1 0 0 0 1 0 0 0 1",
    "1 0 0 0 1 0 0 0 -1",
    "0 0 0 0 0 0 0 0 0", "1 0 0 1 0 0 1 0 0", "RAI", "LPS", "domain domain domain", "list domain domain", "1 2 3;",
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- NIfTI


def damage_nifti(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a NIfTI file, packed or not."""
    packed = content[:2] == b"\x1f\x8b"
    if packed and random.random() < 0.25:
        return damage_bytes(content, random)
    plain = gzip.decompress(content) if packed else content
    way = random.random()
    if way < 0.15:
        changed, told = damage_bytes(plain, random)
    elif way < 0.25:
        changed, told = flip_bits(plain, random, 0, 352)
    elif way < 0.3:
        changed, told = flip_bits(plain, random, 600)
        told += " (voxels)"
    elif way < 0.36 and packed:
        bomb = gzip.compress(plain + bytes(300 * 2**20), 1)
        return bomb, "300 MiB of zeros behind the voxels, packed"
    elif way < 0.4:
        return gzip.compress(content), "packed once more"
    else:
        changed, told = _nifti_fields(plain, random)
    return gzip.compress(changed, 1) if packed else changed, told


def _nifti_fields(plain: bytes, random: Random) -> tuple[bytes, str]:
    """One to four fields of the header at extremes."""
    first = nib.Nifti2Header if int.from_bytes(plain[:4], "little") == 540 else nib.Nifti1Header
    size = first.template_dtype.itemsize
    header = first(plain[:size], check=False)
    names = [name for name in header.template_dtype.names if header.template_dtype[name].kind in "iuf" or name == "dim"]
    told = []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        name = random.choice(
            ["dim", "pixdim", "srow_x", "srow_y", "srow_z", "datatype", "bitpix", "vox_offset", *names]
        )
        field = header[name]
        kind = header.template_dtype[name].base.kind
        value: Any = random.choice(REALS if kind == "f" else (*WHOLE_NUMBERS, 4, 8, 16, 64, 512))
        place = random.randrange(field.size) if field.ndim else None
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if kind != "f":
                limits = np.iinfo(header.template_dtype[name].base)
                value = int(np.clip(value, limits.min, limits.max))
            if place is None:
                header[name] = value
            else:
                field[place] = value
        told.append(f"{name}{'' if place is None else f'[{place}]'} = {value:g}")
    return header.binaryblock + plain[size:], ", ".join(told)


# ---------------------------------------------------------------------------------------------- MetaImage and NRRD


def damage_text_header(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a MetaImage or NRRD file by the lines of its header."""
    way = random.random()
    if not content.startswith((b"NRRD", b"ObjectType")):
        return damage_bytes(content, random)  # voxels alone
    if way < 0.15:
        return damage_bytes(content, random)
    end, sign = _header_end(content)
    if way < 0.25:
        return flip_bits(content, random, 0, end)
    if way < 0.3 and end + 100 < len(content):
        changed, told = flip_bits(content, random, end + 50)
        return changed, f"{told} (voxels)"
    lines = content[:end].split(b"\n")
    told = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        number = random.randrange(len(lines))
        name, found, value = lines[number].partition(sign)
        label = name.decode("latin-1").strip()
        step = random.randrange(8)
        if step == 0:
            del lines[number]
            told.append(f"{label} is missing")
        elif step == 1:
            lines.insert(number, lines[number])
            told.append(f"{label} comes twice")
        elif step == 2:
            other = random.randrange(len(lines))
            lines[number], lines[other] = lines[other], lines[number]
            told.append(f"{label} at another place")
        elif step == 3 and found:
            parts = value.split()
            if parts:
                parts[random.randrange(len(parts))] = random.choice(WORDS[:12]).encode()
            lines[number] = name + sign + b" " + b" ".join(parts)
            told.append(f"{label} = {b' '.join(parts).decode('latin-1')}")
        elif step == 4:
            lines.insert(number, random.choice((b"Foo", b"x" * 100000, b"\0\0", b"NDims", b"encoding")) + sign + b" 3")
            told.append("a strange line")
        else:
            word = random.choice(WORDS)
            lines[number] = name + (sign or b"=") + b" " + word.encode()
            told.append(f"{label} = {word[:40]}")
        if not lines:
            break
    return b"\n".join(lines) + content[end:], "; ".join(told)


def _header_end(content: bytes) -> tuple[int, bytes]:
    """Where the lines of a text header end, and what stands between name and value."""
    if content.startswith(b"NRRD"):
        end = content.find(b"\n\n")
        return (len(content) if end < 0 else end), b":"
    place = content.find(b"ElementDataFile")
    end = content.find(b"\n", place)
    return (len(content) if end < 0 else end), b"="


# ------------------------------------------------------------------------------------------------------------- DICOM

FIELDS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "NumberOfFrames", "PixelSpacing",
    "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "SliceThickness",
    "SpacingBetweenSlices",
    "InstanceNumber", "SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "Modality", "SeriesDescription",
    "EchoTime", "RepetitionTime",
    "PhotometricInterpretation", "ImageType", "SOPClassUID", "PatientID", "AcquisitionNumber",
    "SpecificCharacterSet", "SeriesNumber",
)  # fmt: skip


def damage_dicom(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to a DICOM file by its elements, or to its bytes."""
    import pydicom

    way = random.random()
    if way < 0.2:
        return damage_bytes(content, random)
    if way < 0.3:
        return flip_bits(content, random, 128, 1200)
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(io.BytesIO(content))
        told = []
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            name = random.choice(FIELDS)
            if random.random() < 0.25:
                header.pop(name, None)
                told.append(f"{name} is missing")
                continue
            value = _dicom_value(name, random)
            try:
                setattr(header, name, value)
            except Exception:
                continue
            told.append(f"{name} = {str(value)[:40]}")
        if random.random() < 0.1:
            syntax = random.choice(
                (
                    "1.2.840.10008.1.2.4.50",
                    "1.2.840.10008.1.2.4.90",
                    "1.2.840.10008.1.2.2",
                    "1.2.840.10008.1.2.5",
                    "1.2.3",
                )
            )
            header.file_meta.TransferSyntaxUID = syntax
            told.append(f"TransferSyntaxUID = {syntax}")
        if random.random() < 0.1:
            header.PixelData = random.choice((b"", b"\0", header.PixelData[:-2], header.PixelData * 2))
            told.append(f"{len(header.PixelData)} bytes of pixels")
        out = io.BytesIO()
        try:
            header.save_as(out)
        except Exception:
            return damage_bytes(content, random)
    return out.getvalue(), "; ".join(told)


def _dicom_value(name: str, random: Random) -> Any:
    if name in FIELDS[:7]:
        return random.choice((0, 1, 2, 3, 7, 8, 12, 16, 19, 32, 64, 4095, 65535))
    if name == "NumberOfFrames":
        return random.choice(("0", "1", "2", "-1", "100000", "2147483647"))
    if name in FIELDS[8:15] or name in ("EchoTime", "RepetitionTime"):
        count = {"PixelSpacing": 2, "ImagePositionPatient": 3, "ImageOrientationPatient": 6}.get(name, 1)
        values = [
            random.choice(("0", "1", "-1", "1e9", "1e-9", "NaN", "inf", "x", "", "3"))
            for _ in range(random.choice((count, count, 1, 7)))
        ]
        return values if len(values) > 1 else values[0]
    return random.choice(
        ("", "x", "1.2.3", "MR", "CT", "ISO_IR 192", "\\ISO 2022 IR 87", "RGB", "T1", "-5", "9" * 70, "a\\b\\c", "Ä")
    )


# --------------------------------------------------------------------------------------------------------------- zip


def damage_zip(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage to an archive: of its directory, its entries or what they unpack to."""
    way = random.random()
    if way < 0.2:
        return damage_bytes(content, random)
    if way < 0.3:
        return flip_bits(content, random, max(0, len(content) - 400))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    if way < 0.65:
        return _zip_entries(entries, random)
    if way < 0.75:
        return _zip_field(content, random)
    number = random.randrange(len(entries))
    changed, told = damage_dicom(entries[number][1], random)
    return pack([*entries[:number], (entries[number][0], changed), *entries[number + 1 :]]), f"entry {number}: {told}"


def _zip_entries(entries: list[tuple[str, bytes]], random: Random) -> tuple[bytes, str]:
    """An archive with other entries."""
    name, first = entries[0]
    strange = random.choice(
        (
            "../../x.dcm",
            "/tmp/fuzz-escaped.dcm",
            "C:\\x.dcm",
            "\u202ex.dcm",
            "a" * 60000,
            "x\0y.dcm",
            "",
            "con.dcm",
            ".x",
            "ü.dcm",
        )
    )
    ways = {
        "a bomb of 3 GiB of zeros": lambda: _bomb(entries, 3 * 2**30),
        "a bomb of 200 MiB of zeros": lambda: _bomb(entries, 200 * 2**20),
        "an archive in the archive": lambda: pack([*entries, ("inner.zip", pack(entries))]),
        "only an archive in the archive": lambda: pack([("inner.zip", pack(entries))]),
        "30,000 empty entries": lambda: pack([*entries, *((f"e{n}", b"") for n in range(30000))]),
        f"an entry called {strange[:30]!r}": lambda: pack([*entries[1:], (strange, first)]),
        "all entries of one name": lambda: pack([(name, data) for _, data in entries]),
        "every entry twice": lambda: pack(entries * 2),
        "entries in another order": lambda: pack(random.sample(entries, len(entries))),
        "half of the entries": lambda: pack(entries[: len(entries) // 2]),
        "one entry of the middle is missing": lambda: pack(
            entries[: len(entries) // 2] + entries[len(entries) // 2 + 1 :]
        ),
        "no entries": lambda: pack([]),
        "packed by bzip2": lambda: pack(entries, zipfile.ZIP_BZIP2),
        "packed by lzma": lambda: pack(entries, zipfile.ZIP_LZMA),
        "a link that leads out": lambda: pack(entries, link="/etc/passwd"),
        "a text beside the images": lambda: pack([*entries, ("notes.txt", b"hello"), ("x.dcm", b"no DICOM")]),
    }
    told = random.choice(list(ways))
    return ways[told](), told


def _zip_field(content: bytes, random: Random) -> tuple[bytes, str]:
    """A number of a local header, the directory or its end at an extreme."""
    marks = {b"PK\x03\x04": 30, b"PK\x01\x02": 46, b"PK\x05\x06": 22}
    mark = random.choice(list(marks))
    places = [place for place in range(len(content) - 30) if content[place : place + 4] == mark] or [len(content) - 22]
    at = random.choice(places) + 4 + 2 * random.randrange((marks[mark] - 4) // 2)
    value = random.choice((0, 1, 8, 9, 12, 99, 0x7FFF, 0xFFFF))
    return content[:at] + struct.pack("<H", value) + content[at + 2 :], f"{mark!r}: {value} at byte {at}"


def _bomb(entries: list[tuple[str, bytes]], size: int) -> bytes:
    """An archive with one more entry, of zeros, put together of equal packed pieces; its checksum is wrong."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = piece * math.ceil(size / 2**24) + packer.flush()
    whole, name = pack(entries), b"zero.dcm"
    finish = whole.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", whole[finish + 16 : finish + 20])[0]
    facts = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + facts + name + packed
    record = b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, start) + name
    central, count = whole[start:finish] + record, len(entries) + 1
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(central), start + len(local), 0)
    return whole[:start] + local + central + b"PK\x05\x06" + end


def pack(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED, link: str = "") -> bytes:
    """An archive of named contents."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name) if name else "_", data, method)
        if link:
            entry = zipfile.ZipInfo("link.dcm")
            entry.create_system, entry.external_attr = 3, 0o120777 << 16
            archive.writestr(entry, link)
    return out.getvalue()
