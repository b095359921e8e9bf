"""Locale of the process, kept from ITK."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["own_locale"]


@contextmanager
def own_locale() -> Iterator[None]:
    """Undo what ITK's DICOM code does to the process: it leaves the C locale, in which text files are read as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)
