"""Provenance of table columns: subjects learned from, subjects left out, and whose code it was."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anymri.benchmark.origin import origin
from anymri.benchmark.report.tables import BASELINES, Results

__all__ = ["OTHER_CODE", "UNKNOWN_CODE", "Making", "column_heads", "column_makings", "making_notes"]

OTHER_CODE = "made by other code"
UNKNOWN_CODE = "code not recorded"
#: Untrained baselines that synthesis is compared with.
UNTRAINED = tuple(name for name in BASELINES if name != "threshold")


@dataclass(frozen=True)
class Making:
    """Provenance of the networks of one column.

    Parameters
    ----------
    subjects : tuple of int
        Numbers of training subjects that occur among its networks, ascending; empty = not recorded.
    dropped : str
        Subjects left out of training and why, e.g. ``"3 without t2"``; ``"none"``; ``""`` = not recorded.
    code : {"", "made by other code", "code not recorded"}
        Empty where training and scoring are today's code.
    """

    subjects: tuple[int, ...] = ()
    dropped: str = ""
    code: str = ""

    @property
    def trained_on(self) -> str:
        """E.g. ``28``, ``25 to 28``, or a dash."""
        return " to ".join(map(str, dict.fromkeys((self.subjects[0], self.subjects[-1])))) if self.subjects else "–"

    @property
    def told(self) -> str:
        """With what was left out: ``25 (3 without t2 left out)``."""
        return self.trained_on + (f" ({self.dropped} left out)" if self.dropped not in ("", "none") else "")


def column_makings(results: Results) -> dict[str, Making]:
    """How each column was made, by what the evaluator stored beside the tables."""
    stored: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for settings in results.settings:
        stored[str(settings.get("run")), str(settings.get("fold"))].append(settings)
    runs = results.frame[["column", "method", "run", "fold"]].drop_duplicates().astype(str)
    found = {}
    for column, part in runs.groupby("column"):
        if set(part["method"]) <= set(UNTRAINED):
            found[str(column)] = Making()
            continue
        pairs = zip(part["run"], part["fold"], strict=True)
        found[str(column)] = _making([settings for pair in pairs for settings in stored.get(pair, [{}])])
    return found


def _making(tables: Sequence[dict[str, Any]]) -> Making:
    networks = [entry for settings in tables for entry in settings.get("training", [])]
    subjects = sorted({entry["subjects"] for entry in networks if entry["subjects"] is not None})
    origins = {origin(settings) for settings in tables}
    code = UNKNOWN_CODE if "unknown" in origins else ""
    code = OTHER_CODE if origins & {"training", "scoring"} else code
    return Making(tuple(subjects), _dropped([entry["dropped"] for entry in networks]), code)


def _dropped(counts: Sequence[dict[str, int] | None]) -> str:
    """Reasons and numbers over several networks: ``2 to 3 without t2``."""
    known = [one for one in counts if one is not None]
    if not known:
        return ""
    reasons = list(dict.fromkeys(reason for one in known for reason in one))
    texts = []
    for reason in reasons:
        numbers = sorted({one.get(reason, 0) for one in known})
        texts.append(f"{' to '.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))} {reason}")
    return ", ".join(texts) or "none"


def column_heads(results: Results) -> dict[str, str]:
    """Column to its name as tables print it, with a mark where other code made it."""
    return {
        column: f"{column} ({OTHER_CODE})" if making.code == OTHER_CODE else column
        for column, making in column_makings(results).items()
    }


def making_notes(results: Results) -> list[str]:
    """Plain sentences below a table: training subjects of each column, and whose code made it."""
    makings = column_makings(results)
    trained = [f"{column} {making.told}" for column, making in makings.items() if making.subjects]
    notes = [f"Training subjects: {'; '.join(trained)}."] if trained else []
    for code, sentence in (
        (OTHER_CODE, "What the code gives now may differ; the benchmark command makes them anew."),
        (UNKNOWN_CODE, "Made before code was recorded, or by a method that is not installed here."),
    ):
        columns = [column for column, making in makings.items() if making.code == code]
        notes += [f"{', '.join(columns)}: {code}. {sentence}"] if columns else []
    return notes
