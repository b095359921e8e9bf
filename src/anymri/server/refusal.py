"""Refusal of a request: its code, one line that says why, and its headers."""

from __future__ import annotations

import errno
from collections.abc import Mapping

__all__ = ["Refusal", "refusal_of_disk"]


class Refusal(Exception):
    """A request that is not served.

    Parameters
    ----------
    status : int
        HTTP code.
    detail : str
        One line: what, the problem, the remedy.
    headers : mapping of str to str, optional
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail)
        self.status, self.detail, self.headers = status, " ".join(detail.split()), dict(headers or {})


def refusal_of_disk(error: OSError) -> Refusal | None:
    """The refusal for a disk that is full; None for any other fault."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return Refusal(507, "upload: the server's disk is full; delete studies, or ask who runs it", {"Retry-After": "600"})
