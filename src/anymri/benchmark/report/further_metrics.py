"""Further metrics: tables of what `anymri evaluate` scores beside Dice and synthesis in the brain, where it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anymri.benchmark.report.tables import (
    BASELINES,
    Results,
    cells,
    modality_label,
    region_order,
    region_title,
    subset_order,
)
from anymri.evaluation.metrics.classification import macro_auroc

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_table", "further_sections", "further_table", "place_table"]

#: Metrics in every table, shown only beside others.
STANDARD = ("hd95",)
#: Metrics of a region: title, factor and digits.
FURTHER = {
    "hd95": ("HD95 (mm)", 1, 1),
    "hd": ("HD (mm)", 1, 1),
    "asd": ("ASD (mm)", 1, 2),
    "nsd_2mm": ("surface Dice, 2 mm (%)", 100, 1),
    "iou": ("IoU (%)", 100, 1),
    "sensitivity": ("sensitivity (%)", 100, 1),
    "precision": ("precision (%)", 100, 1),
    "specificity": ("specificity (%)", 100, 2),
    "lesion_dice": ("lesion Dice (%)", 100, 1),
    "lesion_f1": ("lesion F1 (%)", 100, 1),
    "lesion_hd95": ("lesion HD95 (mm)", 1, 1),
    "ece": ("ECE", 1, 4),
    "brier": ("Brier", 1, 4),
    "review_dice": ("review Dice (%)", 100, 1),
    "qu_score": ("QU-BraTS (%)", 100, 1),
}
#: Metrics of a synthesised sequence in the tumour and outside it: title, factor and digits.
PLACES = {
    "psnr_tumor": ("PSNR, tumour (dB)", 1, 2),
    "psnr_outside": ("PSNR, outside (dB)", 1, 2),
    "ssim_tumor": ("SSIM, tumour", 1, 3),
    "ssim_outside": ("SSIM, outside", 1, 3),
    "mae_tumor": ("MAE, tumour (z)", 1, 3),
    "mae_outside": ("MAE, outside (z)", 1, 3),
    "nmse": ("NMSE, brain", 1, 3),
}
#: Columns of the table of classes: title, factor and digits.
CLASSES = {
    "auroc": ("AUROC (%)", 100, 1),
    "accuracy": ("accuracy (%)", 100, 1),
    "balanced_accuracy": ("balanced accuracy (%)", 100, 1),
    "n": ("n", 1, 0),
}


def further_table(results: Results) -> pd.DataFrame:
    """Means of the metrics of a region beside Dice.

    Returns
    -------
    DataFrame
        Index (target, column), a column for each metric of `FURTHER` that there is, in the metric's unit: mean over
        subjects, then plain mean over subsets. Empty where no table has more than the standard metrics.
    """
    table = _means(results, list(FURTHER), region_order(results))
    return table if set(table.columns) - set(STANDARD) else table.iloc[:0]


def place_table(results: Results) -> pd.DataFrame:
    """Means of synthesis in the tumour and outside it: index (target, column), a column for each metric of `PLACES`."""
    return _means(results, list(PLACES), list(results.modalities))


def _means(results: Results, metrics: list[str], targets: list[str]) -> pd.DataFrame:
    import pandas as pd

    present = set(results.frame["metric"].unique())
    means = {
        metric: cells(results, metric)["mean"].groupby(level=["target", "column"], observed=True).mean()
        for metric in metrics
        if metric in present
    }
    if not means:
        return pd.DataFrame()
    table = pd.DataFrame(means)
    methods = dict(results.frame[["column", "method"]].drop_duplicates().astype(str).itertuples(index=False, name=None))
    chosen = [key for key in table.index if key[0] in targets]
    chosen.sort(key=lambda key: (targets.index(key[0]), methods[key[1]] not in BASELINES, key[1]))
    return table.loc[chosen]


def class_table(results: Results) -> pd.DataFrame:
    """What classification is worth, by subset and column.

    Returns
    -------
    DataFrame
        Index (subset, column); columns ``auroc`` (mean over the classes of each against the rest), ``accuracy``,
        ``balanced_accuracy`` and ``n`` (subjects), all over the subjects of one seed, then averaged over seeds. Empty
        where no class was scored.
    """
    import pandas as pd

    frame = results.frame[results.frame["metric"].isin(["class_probability", "class_correct"])]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (subset, column, _), part in frame.groupby(["subset", "column", "seed"], observed=True):
        scored = part[part["metric"] == "class_probability"].astype({"target": str})
        keys = ["dataset", "subject"]
        wide = scored.pivot_table(index=keys, columns="target", values="value", aggfunc="mean", observed=True)
        own = scored[~scored["reference_empty"]].groupby(keys, observed=True)["target"].first().reindex(wide.index)
        correct = part[part["metric"] == "class_correct"]
        rows.setdefault((str(subset), str(column)), []).append(
            {
                "auroc": macro_auroc(wide.to_numpy(), wide.columns.get_indexer(own)),
                "accuracy": correct["value"].mean(),
                "balanced_accuracy": correct.groupby("target", observed=True)["value"].mean().mean(),
                "n": len(wide),
            }
        )
    if not rows:
        return pd.DataFrame(columns=list(CLASSES))
    table = pd.DataFrame({key: pd.DataFrame(seeds).mean() for key, seeds in rows.items()}).T
    order = {subset: place for place, subset in enumerate(subset_order(results))}
    return table.loc[sorted(table.index, key=lambda key: (order[key[0]], key[1]))]


# --------------------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------------------


def further_sections(results: Results) -> list[dict[str, Any]]:
    """The tables as text, those that have rows.

    Returns
    -------
    list of dict
        ``title``, ``head`` (titles of the columns, two of them names) and ``rows``.
    """
    sections = [
        ("Completion by place", place_table(results), PLACES, ["sequence", "method"], modality_label),
        ("Other metrics", further_table(results), FURTHER, ["region", "method"], region_title),
        ("Classes", class_table(results), CLASSES, ["sequences", "method"], _subset_label),
    ]
    return [_section(*section) for section in sections if len(section[1])]


def _subset_label(subset: str) -> str:
    return " + ".join(map(modality_label, subset.split("+")))


def _section(
    title: str,
    table: pd.DataFrame,
    measures: dict[str, tuple[str, int, int]],
    first: list[str],
    label: Callable[[str], str],
) -> dict[str, Any]:
    shown = {name: measures[name] for name in measures if name in table.columns}
    rows = []
    for (key, column), row in table.iterrows():
        values = [
            "–" if row[name] != row[name] else f"{factor * row[name]:.{digits}f}"
            for name, (_, factor, digits) in shown.items()
        ]
        rows.append([label(str(key)), str(column), *values])
    return {"title": title, "head": [*first, *(name for name, _, _ in shown.values())], "rows": rows}
