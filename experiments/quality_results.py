# ruff: noqa: E501 - the lines of a page
"""Results of the quality check: limits from the keep-or-drop curves, tables and pictures.

    python experiments/quality_results.py limits --work /tmp/quality
    python experiments/quality_results.py page --work /tmp/quality --page docs/results/quality.md --given ALARMS.json ...

`limits` writes ``unusable.json``, which `quality_judge.py fit` puts into the package. Files after ``--given`` are the
output of ``anymri quality FOLDER --json`` on unspoiled studies.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from quality_curves import STRENGTHS
from quality_judge import CODES, JUDGED, LEAST_DOUBTFUL, STRENGTH, Table, auroc_table, fit, left_out, severities

from anymri.inference.trust.quality.judge import ARTIFACTS

#: How far below the Dice without the sequence that with it must lie on average, for the sequence to be dropped: the
#: curves are means of few cases, and where a sequence adds nothing they cross by chance.
HARM = 0.01


def real_severities(work: Path) -> tuple[Table, np.ndarray]:
    """Spoiled and unspoiled real cases, judged by numbers that were fitted without the case."""
    phantoms, real = Table(work, "train"), Table(work, "real")
    return real, left_out(real, phantoms, len(np.unique(real.group)))


def read_curves(work: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every case of `quality_curves.py`."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((work / "curves").glob("*.json"))}


def mean_dice(row: dict[str, Any]) -> float:
    """Mean Dice of the three regions; NaN where the image was too spoiled to be read."""
    return float("nan") if row["dice"] is None else float(np.mean(list(row["dice"].values())))


def gains(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Dice with a sequence less Dice without it, by artifact and sequence: unspoiled, then at every strength."""
    whole = mean_dice(rows[0])
    without = {row["code"]: mean_dice(row) for row in rows if row["artifact"] == "dropped"}
    return {
        (name, code): [
            whole - without[code],
            *(
                mean_dice(row) - without[code]
                for strength in STRENGTHS
                for row in rows
                if (row["artifact"], row["code"], row["strength"]) == (name, code, strength)
            ),
        ]
        for name in JUDGED
        for code in CODES
    }


def crossing(places: np.ndarray, values: np.ndarray, level: float) -> float | None:
    """First place at which a curve falls below a level, linearly between its points; None where it never does."""
    for k in range(len(places)):
        if values[k] <= level:
            if k == 0:
                return float(places[0])
            share = (values[k - 1] - level) / max(values[k - 1] - values[k], 1e-9)
            return float(places[k - 1] + share * (places[k] - places[k - 1]))
    return None


def case_severities(work: Path) -> dict[str, dict[tuple[str, str], list[float]]]:
    """Severity of the imposed artifact in every case of the curves, by numbers fitted without the case."""
    phantoms, real = Table(work, "train"), Table(work, "real")
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for case, rows in read_curves(work).items():
        saved = fit(phantoms.join(real.take(real.group != f"real {case}")))
        kept = [row for row in rows if row.get("measures")]
        table = Table.of([(case, row) for row in kept], "curves")
        judged = severities(saved, table)
        clean = real.take((real.group == f"real {case}") & (real.artifact == "none"))
        base = severities(saved, clean)
        for name in JUDGED:
            column = JUDGED.index(name)
            for code in CODES:
                values = [float(base[clean.code == code, column][0])]
                for strength in STRENGTHS:
                    hit = (table.artifact == name) & (table.code == code) & (table.strength == strength)
                    values.append(float(judged[hit, column][0]) if hit.any() else 1.0)
                found.setdefault(case, {})[name, code] = values
    return found


def find_limits(
    curves: dict[str, dict[tuple[str, str], list[float]]], judged: dict[str, dict[tuple[str, str], list[float]]]
) -> dict[str, dict[str, float | None]]:
    """Severity from which a sequence is unusable, by artifact and sequence; None = never."""
    places = np.array([0.0, *STRENGTHS])
    limits: dict[str, dict[str, float | None]] = {}
    for name in JUDGED:
        limits[name] = {}
        for code in CODES:
            mean = np.nanmean([case[name, code] for case in curves.values()], axis=0)
            cross = crossing(places[1:], mean[1:], min(0.0, float(mean[0])) - HARM)
            severity = np.nanmean([case[name, code] for case in judged.values()], axis=0)
            limits[name][code] = None if cross is None else float(np.interp(cross, places, severity))
    return limits


def write_limits(work: Path) -> None:
    """Write ``unusable.json`` and print it."""
    curves = {case: gains(rows) for case, rows in read_curves(work).items()}
    judged = case_severities(work)
    (work / "severities.json").write_text(
        json.dumps({case: {"/".join(key): values for key, values in rows.items()} for case, rows in judged.items()})
    )
    limits = find_limits(curves, judged)
    (work / "unusable.json").write_text(json.dumps(limits, indent=1))
    for name, row in limits.items():
        print(name, {code: None if value is None else round(value, 2) for code, value in row.items()})


def policy(work: Path) -> dict[str, float]:
    """Dice of keeping and of dropping by limits that the other cases gave, over all spoiled images."""
    curves = {case: gains(rows) for case, rows in read_curves(work).items()}
    saved = json.loads((work / "severities.json").read_text())
    judged = {case: {tuple(key.split("/")): values for key, values in rows.items()} for case, rows in saved.items()}
    kept, dropped, chosen = [], 0, []
    for case in curves:
        rest = {other: rows for other, rows in curves.items() if other != case}
        limits = find_limits(rest, {other: judged[other] for other in rest})
        for (name, code), values in curves[case].items():
            limit = limits[name][code]
            for gain, severity in zip(values[1:], judged[case][name, code][1:], strict=True):
                drop = (limit is not None and severity >= max(limit, LEAST_DOUBTFUL)) or np.isnan(gain)
                kept.append(0.0 if np.isnan(gain) else gain)
                chosen.append(0.0 if drop else gain)
                dropped += bool(drop)
    best = np.maximum(kept, 0)
    return {
        "images": len(kept), "dropped": dropped, "always keep": float(np.mean(kept)), "always drop": 0.0,
        "by the limits": float(np.mean(chosen)), "best possible": float(np.mean(best)),
    }  # fmt: skip


def auroc_lines(rows: dict[str, dict[str, float]]) -> list[str]:
    """Markdown table of AUROC."""
    lines = ["| artifact | " + " | ".join(CODES) + " |", "|---" * (len(CODES) + 1) + "|"]
    for name, values in rows.items():
        cells = [f"{values[code]:.3f}" + ("" if values[code] >= 0.95 else " (miss)") for code in CODES]
        lines.append(f"| {ARTIFACTS[name]} | " + " | ".join(cells) + " |")
    return lines


def curve_lines(work: Path) -> list[str]:
    """Markdown table of the mean gain at every strength, and the limit."""
    curves = {case: gains(rows) for case, rows in read_curves(work).items()}
    limits = json.loads((work / "unusable.json").read_text())
    head = ["unspoiled", *(f"{strength:g}" for strength in STRENGTHS)]
    lines = ["| artifact | sequence | " + " | ".join(head) + " | crosses at | unusable from severity |"]
    lines.append("|---" * (len(head) + 4) + "|")
    for name in JUDGED:
        for code in CODES:
            mean = np.nanmean([case[name, code] for case in curves.values()], axis=0)
            cross = crossing(np.array([0.0, *STRENGTHS]), mean, 0.0)
            limit = limits[name][code]
            cells = [f"{value:+.3f}" for value in mean]
            end = ["never" if cross is None else f"{cross:.2f}", "never" if limit is None else f"{limit:.2f}"]
            lines.append(f"| {ARTIFACTS[name]} | {code} | " + " | ".join([*cells, *end]) + " |")
    return lines


def draw_curves(work: Path, out: Path) -> None:
    """One panel an artifact: mean gain by strength, a line a sequence."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves = {case: gains(rows) for case, rows in read_curves(work).items()}
    places = [0.0, *STRENGTHS]
    figure, panels = plt.subplots(4, 4, figsize=(13, 11), sharex=True, sharey=True)
    for panel in panels.flat[len(JUDGED) :]:
        panel.axis("off")
    for panel, name in zip(panels.flat, JUDGED, strict=False):
        for code, colour in zip(CODES, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=True):
            values = np.array([case[name, code] for case in curves.values()])
            panel.plot(places, values.T, color=colour, alpha=0.2, linewidth=0.7)
            panel.plot(places, np.nanmean(values, axis=0), color=colour, label=code, marker="o", markersize=3)
        panel.axhline(0, color="black", linewidth=0.8)
        panel.set_title(ARTIFACTS[name], fontsize=10)
        panel.set_ylim(-0.25, 0.3)
    panels[0, 0].legend(fontsize=8)
    figure.supxlabel("strength of the simulated artifact")
    figure.supylabel("mean Dice with the spoiled sequence less Dice without it")
    figure.tight_layout()
    figure.savefig(out, dpi=80)


def alarm_lines(files: list[Path]) -> list[str]:
    """Verdicts of unspoiled studies."""
    lines = ["| data | sequences | doubtful | unusable | which |", "|---|---|---|---|---|"]
    for path in files:
        studies = json.loads(path.read_text())["studies"]
        rows = [
            (study, code, row) for study, values in studies.items() for code, row in values.get("sequences", {}).items()
        ]
        bad = [f"{study} {code}: {row['reason']}" for study, code, row in rows if row["verdict"] != "usable"]
        unread = [f"{study}: not read ({values['error']})" for study, values in studies.items() if "error" in values]
        count = {verdict: sum(row["verdict"] == verdict for *_, row in rows) for verdict in ("doubtful", "unusable")}
        lines.append(
            f"| {path.stem} | {len(rows)} | {count['doubtful']} | {count['unusable']} | {'; '.join([*bad, *unread])} |"
        )
    return lines


def alarm_items(where: str, table: Table, found: np.ndarray, arrays: dict[str, np.ndarray]) -> str:
    """Counts of unspoiled sequences that are called doubtful and unusable."""
    clean = table.artifact == "none"
    found, limits = found[clean], arrays["doubtful"]
    hit = found >= limits
    upper = np.stack([np.maximum(arrays["unusable"][:, CODES.index(code)], limits) for code in table.code[clean]])
    counts = [
        f"{ARTIFACTS[name]} {count}" for name, count in zip(JUDGED, hit.sum(axis=0).tolist(), strict=True) if count
    ]
    return (
        f"- {where}: {int(hit.any(axis=1).sum())} of {len(found)} sequences doubtful or worse, "
        f"{int((found >= upper).any(axis=1).sum())} of them unusable; "
        f"by artifact: {', '.join(counts) or 'none'}"
    )


def packaged(work: Path, real: Table, real_found: np.ndarray, test: Table) -> tuple[list[str], np.ndarray]:
    """Items on false alarms, and severities of the test phantoms by the packaged numbers."""
    place = Path(__file__).resolve().parents[1] / "src" / "anymri" / "inference" / "trust" / "quality" / "judge.npz"
    with np.load(place) as file:
        arrays = {name: file[name] for name in file.files}
    test_found = severities(arrays, test)
    items = [
        alarm_items("held-back phantoms", test, test_found, arrays),
        alarm_items("13 BraTS cases, each judged by numbers fitted without it", real, real_found, arrays),
    ]
    return items, test_found


def paragraph(*sentences: str, indent: str = "") -> str:
    """Sentences as lines of at most 118 characters."""
    return textwrap.fill(" ".join(sentences), 118, subsequent_indent=indent, break_on_hyphens=False)


def write_page(work: Path, page: Path, given: list[Path]) -> None:
    """Write the page of results and its picture."""
    phantoms, test = Table(work, "train"), Table(work, "test")
    real, real_found = real_severities(work)
    items, test_found = packaged(work, real, real_found, test)
    alone = severities(fit(phantoms), real)
    subjects = {
        part: len(np.unique(table.group)) for part, table in (("train", phantoms), ("test", test), ("real", real))
    }
    figure = page.parent / "quality-curves.png"
    draw_curves(work, figure)
    cases, result = len(read_curves(work)), policy(work)
    text: list[str | list[str]] = [
        "# Quality of sequences",
        paragraph(
            "Whether `anymri quality` and `predict --quality` see simulated artifacts, on which unspoiled images they raise",
            "a false alarm, and from which severity a sequence is better left out. What the numbers mean:",
            "[predict](../how-to/predict.md#quality-of-the-sequences).",
        ),
        "\n".join(
            [
                "- Commands: `python experiments/quality_judge.py measure|fit`, `quality_curves.py`, `quality_results.py`",
                f"- Packaged numbers: fitted to {subjects['train']} phantoms (seed 51) and {subjects['real']} BraTS cases with simulated artifacts",
                f"- Tested on {subjects['test']} phantoms of another seed (52), and on each BraTS case by numbers fitted without it",
                "- Artifacts: `anymri.phantom.artifacts` in a drawn head, at 3 mm, seeds 51 to 53",
                "- Made 2026-11-30, two-core x86-64, no GPU",
            ]
        ),
        f"## AUROC at strength {STRENGTH:g}, held-back phantoms",
        f"{subjects['test']} spoiled against as many unspoiled images in each cell; the goal is 0.95.",
        auroc_lines(auroc_table(test, test_found)),
        f"## AUROC at strength {STRENGTH:g}, real cases with simulated artifacts",
        f"{subjects['real']} BraTS cases, each judged by numbers fitted to the phantoms and the other cases.",
        auroc_lines(auroc_table(real, real_found)),
        "The same by numbers fitted to phantoms alone:",
        auroc_lines(auroc_table(real, alone)),
        "## False alarms on unspoiled images",
        paragraph(
            "A severity is doubtful from where one in a hundred unspoiled images of the fit lies (judged by numbers",
            "fitted without its subject), at least 0.3.",
        ),
        "\n".join(items),
        paragraph(
            "By the packaged numbers, from the files as they are (`anymri quality FOLDER --json`, with `--raw` for heads);",
            "nothing was fitted to these studies. A doubt may be right: nobody graded these images.",
        ),
        alarm_lines(given),
        "## Keep or drop",
        paragraph(
            f"{cases} real cases ({', '.join(read_curves(work))}), each predicted at 3 mm by a fold network that has not seen",
            "it, from four sequences. Mean Dice of whole tumour, core and enhancing tumour with one spoiled sequence, less",
            "the Dice without that sequence: above 0 keeping is better. A sequence is called unusable from the severity at",
            f"which the mean lies {HARM:g} below 0, or below that of the unspoiled sequence where it is below 0 already; at",
            "least its limit of doubt. Thin lines are the cases.",
        ),
        "![Dice kept less Dice dropped, by strength of artifact](quality-curves.png)",
        curve_lines(work),
        paragraph(
            f"Limits of the other cases applied to each case ({result['images']:.0f} spoiled images,",
            f"{result['dropped']:.0f} of them dropped), mean Dice relative to dropping every spoiled sequence: keeping all",
            f"{result['always keep']:+.4f}, by the limits {result['by the limits']:+.4f}, the best choice for each image",
            f"{result['best possible']:+.4f}.",
        ),
        "## What this does not show",
        paragraph(
            "- The artifacts are simulated; no image with a real artifact and an expert's grade was at hand.",
            indent="  ",
        )
        + "\n"
        + paragraph(
            f"- The curves rest on {cases} cases and one spoiled sequence beside three good ones; beside fewer, a sequence",
            "is worth more than they say.",
            indent="  ",
        )
        + "\n"
        + paragraph(
            "- All is judged at 3 mm, the grid of the bundled models: fine noise, stripes and lines of images of 1 mm are",
            "averaged before they are judged, as they are before those models see them.",
            indent="  ",
        )
        + "\n"
        + paragraph(
            "- Settings that were changed with real images in view: the BraTS cases joined the fit after numbers fitted to",
            "phantoms alone had called 17 of their 52 sequences doubtful; the limits of doubt rest on the same 52 images, so",
            "their false alarms are counted too low; the rule of dropping was amended after four cases.",
            indent="  ",
        ),
    ]
    blocks = ["\n".join(block) if isinstance(block, list) else block for block in text]
    page.write_text("\n\n".join(blocks) + "\n")
    print(f"wrote {page} and {figure}")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("limits", "page"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=Path("docs/results/quality.md"))
    parser.add_argument("--given", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.step == "limits":
        write_limits(arguments.work)
    else:
        write_page(arguments.work, arguments.page, arguments.given)


if __name__ == "__main__":
    main()
