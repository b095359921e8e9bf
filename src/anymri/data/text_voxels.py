"""Voxels behind a text header: read or unpacked to exactly what the header promises."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.header import MORE_DATA, working_bytes
from anymri.data.packing import GZIP_ERRORS, MAX_TRAILING_BYTES, PACKING_RATIO, skip, unpacked
from anymri.data.text_header import Described
from anymri.memory import check_memory
from anymri.types import UserError

__all__ = ["read_text_voxels"]

_READ_ERRORS: tuple[type[Exception], ...] = (*GZIP_ERRORS, OSError, ValueError, Warning)


def read_text_voxels(path: Path, described: Described) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Voxels of an image with a text header.

    Parameters
    ----------
    path : Path
        The header, for messages.
    described : Described

    Returns
    -------
    ndarray, shape (i, j, k)
        As stored.
    tuple of str
        What is doubtful about the data files.

    Raises
    ------
    UserError
        If there are fewer voxels than promised, they are damaged, or there is not enough memory.
    """
    shape, dtype, packing = described.shape, described.dtype, described.packing
    promised = shape[0] * shape[1] * shape[2] * dtype.itemsize
    share = promised // len(described.files)
    sizes = [file.stat().st_size for file in described.files]
    if min(sizes) * PACKING_RATIO[packing] < share:
        raise UserError(f"{path}: is truncated, its header promises {promised} bytes; copy or download the file again")
    as_text = 5 * max(sizes) if packing in ("text", "hex") else 0
    check_memory(str(path), working_bytes(shape, dtype.itemsize) + as_text)
    values = np.empty(promised, np.uint8)
    left = False
    for number, file in enumerate(described.files):
        part = values[number * share : (number + 1) * share]
        try:
            left |= _read_part(file, described, part)
        except _READ_ERRORS:
            raise UserError(f"{path}: its voxels are missing or damaged; copy or download the file again") from None
    return values.view(dtype).reshape(shape, order="F"), (MORE_DATA,) if left else ()


def _read_part(file: Path, described: Described, part: NDArray[np.uint8]) -> bool:
    """Fill `part` from one data file; whether anything follows."""
    with file.open("rb") as raw:
        raw.seek(described.start if described.start >= 0 else file.stat().st_size - part.size)
        for _ in range(described.skip_lines):
            if not raw.readline():
                raise EOFError
        if described.packing in ("text", "hex"):
            _read_text(raw, described, part)
            return False
        stream = unpacked(raw, described.packing)
        skip(stream, described.skip_bytes)
        view, filled = part.data, 0
        while filled < part.size:
            count = stream.readinto(view[filled : filled + 2**24])
            if not count:
                raise EOFError
            filled += count
        # To the end, so that the checksum of what is packed is seen.
        return bool(stream.read(MAX_TRAILING_BYTES + 1))


def _read_text(raw: Any, described: Described, part: NDArray[np.uint8]) -> None:
    """Numbers, or hexadecimal digits, that stand in a file as text."""
    skip(raw, described.skip_bytes)
    text = raw.read()
    if described.packing == "hex":
        data = bytes.fromhex(text.decode("ascii"))
        if len(data) < part.size:
            raise EOFError
        part[:] = np.frombuffer(data, np.uint8, part.size)
        return
    dtype = described.dtype
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of what is no number NumPy only warns
        # Asked for a count, NumPy makes up what is not there.
        values = np.fromstring(text, np.float64, sep=" ")[: part.size // dtype.itemsize]
    if values.size * dtype.itemsize != part.size:
        raise EOFError
    bounds = np.iinfo(dtype) if dtype.kind in "iu" else None
    if bounds and not ((values >= bounds.min) & (values <= bounds.max)).all():
        raise ValueError("a number is beyond the type of the voxels")
    part[:] = np.ascontiguousarray(values.astype(dtype)).view(np.uint8)
