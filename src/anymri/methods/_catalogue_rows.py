"""Catalogue of the built-in methods, `catalogue.json`, which `anymri methods` reads instead of asking their classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, NonNegativeInt

from anymri.errors import UserError
from anymri.records import RECORD, REINSTALL, check_record, read_json

__all__ = ["read_catalogue"]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What is told of a method."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    name: str
    title: str
    family: str
    task: str
    year: int
    reference: str
    doi: str
    arxiv: str
    code: str
    subsets: str
    parity: str
    parameters: dict[str, NonNegativeInt]
    novelty: str
    weakness: str
    deviations: list[str]


def read_catalogue(path: Path) -> list[dict[str, Any]]:
    """Rows of the catalogue.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    rows = read_json(path, REINSTALL)
    if not isinstance(rows, list):
        raise UserError(f"{path}: is no list of methods; {REINSTALL}")
    for number, row in enumerate(rows):
        check_record(row, _Row, f"{path}: method {number}", REINSTALL)
    return rows
