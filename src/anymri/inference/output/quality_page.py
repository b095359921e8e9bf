"""The quality page: every sequence of a cohort with a thumbnail and its numbers, the most doubtful first."""

from __future__ import annotations

from collections.abc import Sequence

from anymri.inference.output.report import page_template
from anymri.inference.output.result import NOTICE
from anymri.inference.trust.quality.cohort import Judged

__all__ = ["quality_page"]


def quality_page(judged: Sequence[Judged], title: str) -> str:
    """HTML page that needs no other file.

    Parameters
    ----------
    judged : sequence of Judged
    title : str
        What was judged, e.g. the name of a folder.
    """
    rows = [
        {**row, "study": study.name if len(judged) > 1 else ""}
        for study in judged
        if study.quality is not None
        for row in study.quality.rows()
    ]
    rows.sort(key=lambda row: -row["doubt"])
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("usable", "doubtful", "unusable")}
    shape = [
        f"{study.name}: {sentence}" if len(judged) > 1 else sentence
        for study in judged
        if study.quality is not None
        for sentence in study.quality.remarks
    ]
    errors = [(study.name, study.error) for study in judged if study.quality is None]
    return page_template("quality.html.j2").render(
        title=title, studies=len(judged), counts=counts, quality=rows, shape=shape, errors=errors, notice=NOTICE
    )
