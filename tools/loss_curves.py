"""Draw every loss term of finished runs against minutes of training, one panel a run.

    python tools/loss_curves.py NAME=RUN [NAME=RUN ...] -o docs/results/first-wave-curves.svg

Values are the logged means of an epoch, divided by the term's own first one, so that terms of any scale show whether
they still fall; panels cannot be compared with each other in height.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from anymri.training.log import read_log

#: Panels in a row.
COLUMNS = 4


def curves(run: Path) -> tuple[list[float], dict[str, list[float]]]:
    """Minutes at the end of every epoch, and each term's means; NaN in epochs of a stage without the term."""
    rows = [row for row in read_log(run) if "epoch" in row and "terms" in row]
    if not rows:
        raise SystemExit(f"{run}: no training log; give a run folder")
    minutes, passed = [], 0.0
    for row in rows:
        passed += float(row["seconds"]) / 60
        minutes.append(passed)
    names = dict.fromkeys(name for row in rows for name in row["terms"])
    return minutes, {name: [row["terms"].get(name) or math.nan for row in rows] for name in names}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "anymri"
    rows = math.ceil(len(options.runs) / COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for text, panel in zip(options.runs, panels, strict=False):  # in this order no panel is lost
        name, _, run = text.partition("=")
        minutes, terms = curves(Path(run))
        for term, values in terms.items():
            first = next((value for value in values if math.isfinite(value)), None)
            if first is None:  # 0 throughout, e.g. the difference of two equal views
                continue
            panel.plot(minutes, [value / first for value in values], linewidth=1.1, label=term.replace("_", " "))
        panel.set_yscale("log")
        panel.set_title(name, fontsize=10)
        panel.tick_params(labelsize=7)
        panel.legend(fontsize=5.5)
    for panel in list(panels):
        panel.axis("off")
    figure.supxlabel("minutes of training", fontsize=9)
    figure.supylabel("loss term, divided by its first mean", fontsize=9)
    figure.savefig(options.output, metadata={"Date": None})
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
