"""Pictures of the best, median and worst subject, stored beside the results table for the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.cache import Entry
from anymri.inference.labels import label_map
from anymri.inference.sliding_window import SubjectPrediction

if TYPE_CHECKING:
    import pandas as pd

    from anymri.evaluation.evaluate import Evaluation

__all__ = ["draw_extremes", "rank_subjects"]

#: Which sequence lies under the contours, where it is available.
BACKGROUND = ("flair", "t1c", "t2", "t1")
#: Single sequences that are shown next to the full set, if they were scored.
SINGLES = ("flair", "t1c")
LEGEND = "Contours: blue oedema, orange necrotic core, yellow enhancing tumour. Left the reference, then the prediction"


def rank_subjects(table: pd.DataFrame, method: str) -> dict[str, str]:
    """Best, median and worst subject of a method.

    Parameters
    ----------
    table : DataFrame
        Results.
    method : str

    Returns
    -------
    dict of str to str
        ``"best"``, ``"median"``, ``"worst"`` to the subject, by mean whole-tumour Dice over all subsets (or that of
        the first region there is, or PSNR). Nobody appears twice: with two subjects the median is left out.
    """
    own = table[table["method"] == method]
    scored = own[own["metric"] == "dice"]
    if scored.empty:
        scored = own[own["metric"] == "psnr"]
    elif (scored["target"] == "whole_tumor").any():
        scored = scored[scored["target"] == "whole_tumor"]
    else:
        scored = scored[scored["target"] == scored["target"].iloc[0]]
    means = scored.groupby("subject", observed=True)["value"].mean()
    order = sorted(((-value, str(subject)) for subject, value in means.items()))
    names = [subject for _, subject in order]
    places = {"best": 0, "median": len(names) // 2, "worst": len(names) - 1}
    chosen: dict[str, str] = {}
    for rank in ("best", "worst", "median"):
        if names and names[places[rank]] not in chosen.values():
            chosen[rank] = names[places[rank]]
    return {rank: chosen[rank] for rank in ("best", "median", "worst") if rank in chosen}


def draw_extremes(work: Evaluation, table: pd.DataFrame, out: Path) -> Path | None:
    """Predict three subjects again and draw them for up to three subsets.

    Parameters
    ----------
    work : Evaluation
    table : DataFrame
        What `work` scored.
    out : Path
        The results table; pictures and ``index.json`` go to ``<stem>.pictures/``.

    Returns
    -------
    Path or None
        The folder; None if there is nothing to draw.
    """
    from anymri.evaluation.evaluate import predict_entry

    folder, fresh = out.with_name(out.stem + ".pictures"), out.with_name(out.stem + ".pictures.tmp")
    for old in (fresh, folder):
        shutil.rmtree(old, ignore_errors=True)
    subsets = _shown_subsets(work)
    ranked = rank_subjects(table, work.method.name)
    if not subsets or not ranked:
        return None
    fresh.mkdir()
    index = []
    for rank, subject in ranked.items():
        entry = work.cache.entry(subject)
        own = table[(table["subject"] == subject) & (table["method"] == work.method.name)]
        wanted = [subset for subset in subsets if subset in work.subsets_of(subject)]
        outputs = tuple(name for name in work.method.outputs if name in ("logits", "image"))
        for subset, prediction in predict_entry(work, entry, wanted, outputs):
            name = work.spec.subset_name(subset)
            file = f"{name}-{rank}.png"
            seen = bool(own["seen_in_training"].any())
            (fresh / file).write_bytes(_draw(work, entry, subset, prediction, seen))
            dice = own[(own["metric"] == "dice") & (own["subset"] == name)]
            scores = {str(target): float(value) for target, value in zip(dice["target"], dice["value"], strict=True)}
            facts = {"run": work.run, "method": work.method.name, "subject": subject, "subset": name, "rank": rank}
            index.append({**facts, "file": file, "dice": scores, "seen_in_training": seen})
    order = [work.spec.subset_name(subset) for subset in subsets]
    index.sort(key=lambda entry: (order.index(entry["subset"]), ("best", "median", "worst").index(entry["rank"])))
    legend = LEGEND + ("; then one missing sequence, made and real." if "image" in work.method.outputs else ".")
    (fresh / "index.json").write_text(json.dumps({"legend": legend, "pictures": index}, indent=1) + "\n")
    fresh.replace(folder)
    return folder


def _shown_subsets(work: Evaluation) -> list[tuple[str, ...]]:
    """The largest subset that was scored and the single sequences that tell most; never more than three."""
    if not work.subsets:
        return []
    full = max(work.subsets, key=len)
    singles = [subset for code in SINGLES for subset in work.subsets if subset == (code,)]
    others = [subset for subset in work.subsets if subset != full and subset not in singles]
    return list(dict.fromkeys([full, *singles, *others]))[:3]


def _draw(work: Evaluation, entry: Entry, subset: Sequence[str], prediction: SubjectPrediction, seen: bool) -> bytes:
    """One picture: the most lesion-laden axial slice with reference and prediction, and a made-up sequence."""
    from anymri.inference.pictures import brain_box, lesion_slices, montage_png, slice_picture

    image, spec = np.asarray(entry.image, np.float32), work.spec
    label = None if entry.label is None else np.asarray(entry.label)
    shown = next((code for code in BACKGROUND if code in subset), subset[0])
    under = image[spec.index(shown)]
    common: dict[str, Any] = {
        "index": lesion_slices(label, under)["axial"],
        "spacing_mm": entry.spacing_mm,
        "box": brain_box(under),
        "height": 200,
        "spec": spec,
    }
    stamp = "SEEN IN TRAINING" if seen else None
    panels, captions = [], []
    if label is not None:
        panels.append(slice_picture(under, label, stamp=stamp, **common))
        captions.append(f"{shown}: reference")
    if prediction.probability is not None and prediction.head is not None:
        found = label_map(prediction.probability, prediction.head, work.method.spec)
        panels.append(slice_picture(under, found, stamp=stamp, **common))
        captions.append("prediction")
    pair = _made_and_real(work, entry, subset, prediction)
    if pair is not None:
        code, made, real = pair
        panels += [slice_picture(made, stamp="SYNTHETIC", **common), slice_picture(real, stamp=stamp, **common)]
        captions += [f"{code}: made", f"{code}: real"]
    return montage_png(panels, captions)


def _made_and_real(
    work: Evaluation, entry: Entry, subset: Sequence[str], prediction: SubjectPrediction
) -> tuple[str, NDArray[Any], NDArray[Any]] | None:
    """First missing sequence that was made and exists, within the real one's brain."""
    image = prediction.image
    if image is None:
        return None
    for code in BACKGROUND:
        if code not in work.spec.modalities or code in subset:
            continue
        channel = work.spec.index(code)
        if entry.present[channel] and bool(prediction.synthesised[channel]):
            real = np.asarray(entry.image[channel], np.float32)
            return code, np.where(real != 0, image[channel].numpy(), 0), real
    return None
