"""Packed streams of voxels: unpacked piece by piece, never further than asked."""

from __future__ import annotations

import bz2
import gzip
import zlib
from typing import Any, cast

from isal import igzip, isal_zlib

__all__ = ["GZIP_ERRORS", "MAX_TRAILING_BYTES", "PACKING_RATIO", "skip", "unpacked"]

#: What a broken gzip stream raises; isal's stub declares its class as an instance.
GZIP_ERRORS: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error, cast("Any", isal_zlib.IsalError))
#: Most bytes that one can unpack to. Deflate cannot do better; of bzip2 no image comes near.
PACKING_RATIO = {"raw": 1.0, "zlib": 1032.0, "gzip": 1032.0, "bzip2": 50_000.0, "text": 8.0, "hex": 0.5}
#: Padding tolerated behind the voxels, in bytes.
MAX_TRAILING_BYTES = 2**20
_PIECE = 2**22


def unpacked(raw: Any, packing: str) -> Any:
    """Stream of what is packed in a file, from its present place on.

    Parameters
    ----------
    raw : binary file
    packing : {"raw", "gzip", "zlib", "bzip2"}
        ``"zlib"`` may turn out to be gzip: both are written.
    """
    if packing == "zlib":
        place = raw.tell()
        packing = "gzip" if raw.read(2) == b"\x1f\x8b" else "zlib"
        raw.seek(place)
    if packing == "gzip":
        return igzip.GzipFile(fileobj=raw, mode="rb")
    if packing == "bzip2":
        return bz2.BZ2File(raw)
    return _Inflated(raw) if packing == "zlib" else raw


class _Inflated:
    """A zlib stream of a file.

    Parameters
    ----------
    raw : binary file
    """

    def __init__(self, raw: Any) -> None:
        self._raw, self._engine = raw, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        pieces, wanted = [], size
        while wanted and not self._engine.eof:
            packed = self._engine.unconsumed_tail or self._raw.read(_PIECE)
            if not packed:
                raise EOFError
            pieces.append(self._engine.decompress(packed, wanted))
            wanted -= len(pieces[-1])
        return b"".join(pieces)

    def readinto(self, view: memoryview) -> int:
        """Fill a buffer as far as the stream reaches."""
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def skip(stream: Any, size: int) -> None:
    """Pass over bytes of a stream.

    Raises
    ------
    EOFError
        If it has fewer.
    """
    while size > 0:
        passed = len(stream.read(min(size, _PIECE)))
        if not passed:
            raise EOFError
        size -= passed
