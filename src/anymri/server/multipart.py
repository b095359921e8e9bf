"""Multipart bodies, read as they come: parts go to disk, never as a whole into memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from anymri.server.refusal import Refusal, refusal_of_disk
from anymri.server.settings import Limits

__all__ = ["PartSink", "Parts", "boundary_of", "pour"]

#: Longest line of a part's header in bytes, and most lines.
LONGEST_HEADER, HEADERS = 4096, 16


class PartSink(Protocol):
    """What takes the parts of a body."""

    def begin(self, headers: dict[str, str]) -> None:
        """A part begins; its headers by name in small letters."""

    def data(self, data: bytes) -> None:
        """More of the part."""

    def end(self) -> None:
        """The part is complete."""


def boundary_of(request: Request, kind: str) -> bytes:
    """Boundary of a multipart body.

    Raises
    ------
    Refusal
        If the request has another type of content.
    """
    told, options = parse_options_header(request.headers.get("content-type"))
    if told != kind.encode():
        raise Refusal(415, f"request: its content is {told.decode('latin-1')[:40] or 'of no type'}; send {kind}")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise Refusal(400, f"request: its {kind} has no usable boundary; let your HTTP library set the content type")
    return boundary


class Parts:
    """Parser of a multipart body that hands its parts to a sink.

    Parameters
    ----------
    boundary : bytes
    sink : PartSink
    most_parts : int
    """

    def __init__(self, boundary: bytes, sink: PartSink, most_parts: int) -> None:
        self._sink, self._left, self._complete = sink, most_parts, False
        self._headers: dict[str, str] = {}
        self._name, self._value = b"", b""
        callbacks: Any = {
            "on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": sink.end,
            "on_header_field": self._header_name, "on_header_value": self._header_value,
            "on_header_end": self._header_end, "on_headers_finished": self._headers_end, "on_end": self._end,
        }  # fmt: skip
        self._parser = MultipartParser(boundary, callbacks, max_header_count=HEADERS, max_header_size=LONGEST_HEADER)

    def write(self, data: bytes) -> None:
        """Take more of the body.

        Raises
        ------
        Refusal
            If it is malformed, or the sink refuses.
        """
        try:
            self._parser.write(data)
        except FormParserError:
            raise Refusal(400, "request: its multipart body is malformed; send it by an HTTP library") from None
        except OSError as error:
            raise refusal_of_disk(error) or error from None

    def finish(self) -> None:
        """The body has ended.

        Raises
        ------
        Refusal
            If it ended too early.
        """
        if not self._complete:
            raise Refusal(400, "request: its multipart body is cut off; send it again")

    def _begin(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Refusal(413, "request: holds too many files; send one study at a time")
        self._headers, self._name, self._value = {}, b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        # Browsers write names in UTF-8 here.
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name, self._value = b"", b""

    def _headers_end(self) -> None:
        self._sink.begin(self._headers)

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._sink.data(data[start:end])

    def _end(self) -> None:
        self._complete = True


async def pour(request: Request, parts: Parts, limits: Limits, on_bytes: Callable[[int], None]) -> None:
    """Read the body of a request into a parser, within the limits of time.

    Parameters
    ----------
    request : Request
    parts : Parts
    limits : Limits
    on_bytes : callable
        Told how many bytes came, before they are parsed; raises where they are too many.

    Raises
    ------
    Refusal
        If it is too slow, too large, malformed or cut off.
    """
    end = time.monotonic() + limits.upload_s
    stream = request.stream().__aiter__()
    while True:
        try:
            left = min(limits.pause_s, end - time.monotonic())
            data = await asyncio.wait_for(stream.__anext__(), max(left, 0.001))
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise Refusal(408, "upload: came too slowly and was given up; send it again, or in smaller parts") from None
        on_bytes(len(data))
        if data:
            await asyncio.to_thread(parts.write, data)
    parts.finish()
