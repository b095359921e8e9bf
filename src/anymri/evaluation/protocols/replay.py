"""Protocol replay: score predictions under any protocol, and show what its quirks do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.protocols.post_processing import CLEANINGS
from anymri.evaluation.protocols.table import PROTOCOLS, Protocol
from anymri.evaluation.scoring import Score
from anymri.types import GLIOMA, DataSpec

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EMPTY_RULES",
    "Case",
    "aggregate",
    "compare_protocols",
    "dice_epsilon",
    "dice_plain",
    "dice_smoothed",
    "score",
]

Mask = NDArray[np.bool_]


# --------------------------------------------------------------------------------------------------------------
# Empty regions
# --------------------------------------------------------------------------------------------------------------


def dice_plain(both: int, predicted: int, real: int) -> float:
    """``2 I / (P + R)``. Both empty: 1. One empty: 0."""
    return 2 * both / (predicted + real) if predicted + real else 1.0


def dice_smoothed(both: int, predicted: int, real: int) -> float:
    """``(2 I + 1) / (P + R + 1)``. Both empty: 1. One empty: above 0, the more the fewer voxels the other has."""
    return (2 * both + 1) / (predicted + real + 1)


def dice_epsilon(both: int, predicted: int, real: int) -> float:
    """``(2 I + 1e-8) / (P + R + 1e-8)``. Both empty: 1. One empty: 0 in practice (at most 1e-8)."""
    return (2 * both + 1e-8) / (predicted + real + 1e-8)


EMPTY_RULES: dict[str, Callable[[int, int, int], float]] = {
    "plain": dice_plain,
    "smoothed": dice_smoothed,
    "epsilon": dice_epsilon,
}


# --------------------------------------------------------------------------------------------------------------
# Scoring
# --------------------------------------------------------------------------------------------------------------


def score(
    predicted: Mapping[str, Mask],
    label: NDArray[np.integer],
    protocol: Protocol,
    *,
    spec: DataSpec = GLIOMA,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    brain: Mask | None = None,
) -> list[Score]:
    """Dice of predicted regions under a protocol.

    Parameters
    ----------
    predicted : dict of str to ndarray of bool, shape (D, H, W)
        Region to mask, on the grid of the label.
    label : ndarray of int, shape (D, H, W)
        Reference label map.
    protocol : Protocol
    spec : DataSpec, default=GLIOMA
    spacing_mm : sequence of float, default=1 mm
        Sizes that the protocol states in voxels of 1 mm are taken in millimetres; at 1 mm they are exact.
    brain : ndarray of bool, shape (M, D, H, W), or None
        Brain of every sequence that exists; needed by protocols that crop to it.

    Returns
    -------
    list of Score
        ``dice`` of every region, and ``dice_cleaned`` where the protocol cleans up. `reference_empty` refers to what
        is left of the reference after cropping.

    Raises
    ------
    ValueError
        If shapes differ or a brain is needed and not given.
    """
    wrong = [region for region, mask in predicted.items() if np.shape(mask) != np.shape(label)]
    if wrong:
        raise ValueError(f"{wrong[0]}: prediction {np.shape(predicted[wrong[0]])} and label {np.shape(label)} differ")
    box = protocol.crop.box(np.shape(label), spacing_mm, brain)
    counted = np.asarray(label)[box] != (-1 if spec.ignore is None else spec.ignore)
    masks = {name: np.asarray(mask, bool)[box] & counted for name, mask in predicted.items() if name in spec.regions}
    if protocol.label_map:
        masks = _nest(masks, spec)
    versions = {"dice": masks}
    if protocol.cleaning:
        cleaned = masks
        for step in protocol.cleaning:
            cleaned = CLEANINGS[step](cleaned, tuple(spacing_mm), box)
        versions["dice_cleaned"] = cleaned
    formula = EMPTY_RULES[protocol.empty]
    scores = []
    for metric, found in versions.items():
        for region, mask in found.items():
            real = np.isin(label[box], spec.region_values(region))
            counts = (np.count_nonzero(mask & real), np.count_nonzero(mask), np.count_nonzero(real))
            scores.append(Score(region, metric, formula(*map(int, counts)), "1", counts[2] == 0))
    return scores


def _nest(masks: dict[str, Mask], spec: DataSpec) -> dict[str, Mask]:
    """Regions as they come back from one label map: each holds all predicted regions that lie within it."""
    labels = {region: set(spec.regions[region]) for region in masks}
    return {
        region: np.logical_or.reduce([masks[inner] for inner in masks if labels[inner] <= labels[region]])
        for region in masks
    }


class Case(NamedTuple):
    """One prediction to score, see `score`."""

    subject: str
    subset: str
    predicted: Mapping[str, Mask]
    label: NDArray[np.integer]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    brain: Mask | None = None
    fold: int = 0


def aggregate(frame: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Mean of every target and metric, averaged in the protocol's order.

    Parameters
    ----------
    frame : DataFrame
        Columns ``subject subset fold target metric value``.
    protocol : Protocol

    Returns
    -------
    DataFrame
        Columns ``target metric value subjects``; the last is the number of different subjects.
    """
    keys = ["target", "metric"]
    subjects = frame.groupby(keys, observed=True, sort=False)["subject"].nunique().rename("subjects")
    rest = [name for name in ("subject", "subset", "fold") if name in protocol.aggregation]
    levels = frame[[*keys, *rest, "value"]]
    for place, _ in enumerate(rest):
        levels = levels.groupby([*keys, *rest[place + 1 :]], observed=True, sort=False)["value"].mean().reset_index()
    return levels.merge(subjects.reset_index(), on=keys)


def compare_protocols(
    cases: Iterable[Case], protocols: Sequence[str] | None = None, spec: DataSpec = GLIOMA
) -> pd.DataFrame:
    """Score the same predictions under several protocols.

    Parameters
    ----------
    cases : iterable of Case
        Read once, one at a time.
    protocols : sequence of str or None, default=None
        Names in `PROTOCOLS`; None = all.
    spec : DataSpec, default=GLIOMA

    Returns
    -------
    DataFrame
        Columns ``protocol target metric value subjects difference``; `difference` is to the Dice of the protocol
        ``anymri`` for the same target, NaN where that was not asked for.
    """
    import pandas as pd

    names = list(PROTOCOLS) if protocols is None else list(protocols)
    rows = []
    for case in cases:
        for name in names:
            found = score(
                case.predicted, case.label, PROTOCOLS[name], spec=spec, spacing_mm=case.spacing_mm, brain=case.brain
            )
            rows += [(name, case.subject, case.subset, case.fold, s.target, s.metric, s.value) for s in found]
    columns = ["protocol", "subject", "subset", "fold", "target", "metric", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    tables = []
    for name in names:
        table = aggregate(frame[frame["protocol"] == name], PROTOCOLS[name])
        table.insert(0, "protocol", name)
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    ours = result[(result["protocol"] == "anymri") & (result["metric"] == "dice")].set_index("target")["value"]
    result["difference"] = result["value"] - result["target"].map(ours).astype(float)
    return result
