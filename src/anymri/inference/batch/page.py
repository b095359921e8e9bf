"""Index page of a batch: one line a study with picture, volumes and warnings, to be sorted and filtered."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anymri.inference.batch.table import StudyRow, columns
from anymri.inference.output.result import NOTICE
from anymri.inference.words import title
from anymri.modalities import MODALITIES

__all__ = ["index_page"]


def index_page(rows: Sequence[StudyRow], out: Path) -> str:
    """HTML page of many results: style and the few lines that sort and filter are inside, pictures and reports linked.

    Parameters
    ----------
    rows : sequence of StudyRow
    out : Path
        Folder of the page; links are relative to it.
    """
    names = columns(rows)
    regions = [name.removesuffix("_ml") for name in names if name.endswith("_ml")]
    expected = [region for region in regions if f"{region}_dice_expected" in names]
    return str(
        _template().render(
            notice=NOTICE,
            scopes=sorted({row.scope for row in rows} - {""}),
            rows=[_row(row, regions, out) for row in rows],
            regions=[(region, title(region)) for region in regions],
            expected=expected,
            measured=any(name.endswith("_dice_measured") for name in names),
            done=sum(row.status == "done" for row in rows),
            failed=sum(row.status != "done" for row in rows),
            warned=sum(bool(row.warnings) for row in rows),
            subsets=Counter(_names(row, "sequences") for row in rows if row.status == "done").most_common(),
            models=_models(rows),
        )
    )


def _row(row: StudyRow, regions: Sequence[str], out: Path) -> dict[str, Any]:
    qualities = {name: value for name, value in row.values.items() if name.startswith("quality_") and value != "usable"}
    return {
        "study": row.study,
        "status": row.status,
        "reason": row.values.get("reason", ""),
        "report": "" if row.result is None else _link(row.result / "report.html", out),
        "thumbnail": "" if row.thumbnail is None else _link(row.thumbnail, out),
        "sequences": _names(row, "sequences"),
        "missing": _names(row, "missing"),
        "volumes": [_volume(row, region) for region in regions],
        "quality": [(MODALITIES[name.removeprefix("quality_")].short_name, value) for name, value in qualities.items()],
        "warnings": row.warnings,
        "order": json.dumps([row.study, *(row.values.get(f"{region}_ml") for region in regions), _doubt(row)]),
    }


def _doubt(row: StudyRow) -> int:
    """Number of warnings, to sort by; failed studies come before all."""
    return len(row.warnings) if row.status == "done" else 10**6


def _volume(row: StudyRow, region: str) -> dict[str, Any]:
    """Volume of a region and the Dice to expect of it, for one cell."""
    values = {kind: row.values.get(f"{region}_dice_{kind}") for kind in ("expected", "low", "high", "measured")}
    unknown, doubtful = f"{region}_ml" in row.values, region in row.low
    return {"ml": row.values.get(f"{region}_ml"), "unknown": unknown, "doubtful": doubtful, **values}


def _names(row: StudyRow, column: str) -> str:
    codes = str(row.values.get(column) or "")
    return ", ".join(MODALITIES[code].short_name for code in codes.split("+") if code)


def _models(rows: Sequence[StudyRow]) -> list[tuple[str, str, str]]:
    """Name, checksum and version of the models that made the results; more than one is worth seeing."""
    found = {
        tuple(str(row.values[key]) for key in ("model", "weights_sha256", "program"))
        for row in rows
        if row.status == "done"
    }
    return sorted((name, digest, program) for name, digest, program in found)


def _link(path: Path, out: Path) -> str:
    return quote(Path(os.path.relpath(path, out)).as_posix())


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("anymri.inference.batch"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("index.html.j2")
