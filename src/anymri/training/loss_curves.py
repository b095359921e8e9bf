"""Loss curves of finished runs: every term against minutes of training, one panel per run; `anymri curves`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from anymri.errors import UserError
from anymri.files import replace_file
from anymri.training.log import read_log

__all__ = ["draw_loss_curves", "read_terms"]

#: Panels in a row.
COLUMNS = 4


def read_terms(run: Path) -> tuple[list[float], dict[str, list[float]]]:
    """Loss terms of a run, epoch by epoch.

    Parameters
    ----------
    run : Path
        Run folder.

    Returns
    -------
    minutes : list of float
        Minutes of training at the end of every epoch.
    terms : dict of str to list of float
        Each term's mean of every epoch; NaN in epochs of a stage without the term.

    Raises
    ------
    UserError
        If there is no log of a training in the folder, or it is damaged.
    """
    rows = [row for row in read_log(run) if {"epoch", "terms", "seconds"} <= row.keys()]
    if not rows:
        raise UserError(f"{run}: no training log; give a run folder")
    minutes, passed = [], 0.0
    for row in rows:
        passed += float(row["seconds"]) / 60
        minutes.append(passed)
    names = dict.fromkeys(name for row in rows for name in row["terms"])
    return minutes, {name: [row["terms"].get(name) or math.nan for row in rows] for name in names}


def draw_loss_curves(runs: Mapping[str, Path], out: Path) -> Path:
    """Draw the loss terms of several runs, each divided by its own first mean.

    So terms of any scale show whether they still fall; the heights of two panels cannot be compared.

    Parameters
    ----------
    runs : dict of str to Path
        Title of the panel to run folder.
    out : Path
        The drawing, e.g. ``curves.svg``; the same runs give the same bytes.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If a folder holds no log of a training or `out` is of no known type.
    """
    import matplotlib
    from matplotlib.figure import Figure

    read = {name: read_terms(run) for name, run in runs.items()}
    rows = math.ceil(len(runs) / COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.7 * rows), layout="constrained")
    kind = out.suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise UserError(f"{out}: drawings of this type are unknown; name the file e.g. curves.svg")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for (name, (minutes, terms)), panel in zip(read.items(), panels, strict=False):  # in this order no panel is lost
        for term, values in terms.items():
            first = next((value for value in values if math.isfinite(value)), None)
            if first is None:  # 0 throughout, e.g. the difference of two equal views
                continue
            panel.plot(minutes, [value / first for value in values], linewidth=1.1, label=term.replace("_", " "))
        panel.set_yscale("log")
        panel.set_title(name, fontsize=10)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=5.5)
    for panel in panels:
        panel.axis("off")
    figure.supxlabel("minutes of training", fontsize=9)
    figure.supylabel("loss term, divided by its first mean", fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "anymri"}), replace_file(out) as file:
        figure.savefig(file, format=kind, metadata={"Date": None} if kind in ("svg", "pdf") else None)
    return out
