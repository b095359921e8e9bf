"""Pictures of the best, median and worst subject, stored beside the results table for the report."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.study import Study
from anymri.evaluation.score_subject import predict_entry
from anymri.evaluation.setup import Evaluation
from anymri.files import replace_folder
from anymri.inference.labels import label_map
from anymri.inference.sliding_window import SubjectPrediction
from anymri.records import write_record

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["draw_extremes", "rank_subjects"]

#: Which sequence lies under the contours, where it is available.
BACKGROUND = ("flair", "t1c", "t2", "t1")
#: Single sequences that are shown next to the full set, if they were scored.
SINGLES = ("flair", "t1c")
#: Height of one panel in pixels, and colours of the palette.
HEIGHT, COLOURS = 230, 96
RANKS = ("best", "median", "worst")
LEGEND = (
    "Contours: blue oedema, orange necrotic core, yellow enhancing tumour; left the reference, right the prediction"
)


def rank_subjects(table: pd.DataFrame) -> dict[str, str]:
    """Best, median and worst subject.

    Parameters
    ----------
    table : DataFrame
        Results of one method and one subset.

    Returns
    -------
    dict of str to str
        ``"best"``, ``"median"``, ``"worst"`` to the subject, by whole-tumour Dice (or that of the first region
        there is, or PSNR). Nobody appears twice: with two subjects the median is left out.
    """
    scored = table[table["metric"] == "dice"]
    if scored.empty:
        scored = table[table["metric"] == "psnr"]
    elif (scored["target"] == "whole_tumor").any():
        scored = scored[scored["target"] == "whole_tumor"]
    else:
        scored = scored[scored["target"] == scored["target"].iloc[0]]
    means = scored.groupby("subject", observed=True)["value"].mean()
    names = [subject for _, subject in sorted((-value, str(subject)) for subject, value in means.items())]
    places = {"best": 0, "worst": len(names) - 1, "median": len(names) // 2}
    chosen: dict[str, str] = {}
    for rank, place in places.items():
        if names and names[place] not in chosen.values():
            chosen[rank] = names[place]
    return {rank: chosen[rank] for rank in RANKS if rank in chosen}


def draw_extremes(work: Evaluation, table: pd.DataFrame, out: Path) -> Path | None:
    """Predict the best, median and worst subject of up to three subsets again and draw them.

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
    folder = out.with_name(out.stem + ".pictures")
    shutil.rmtree(folder, ignore_errors=True)
    own = table[table["method"] == work.system]
    wanted: dict[str, dict[tuple[str, ...], str]] = {}
    subsets = _shown_subsets(work)
    for subset in subsets:
        for rank, subject in rank_subjects(own[own["subset"] == work.spec.subset_name(subset)]).items():
            wanted.setdefault(subject, {})[subset] = rank
    if not wanted:
        return None
    index, drawn = [], {}
    outputs = tuple(name for name in work.method.outputs if name in ("logits", "image"))
    for subject, ranks in sorted(wanted.items()):
        for study, members in work.cache.entries(subject, ranks):
            for subset, prediction in predict_entry(work, study, members, outputs):
                facts = _facts(work, own, subject, subset, ranks[subset])
                drawn[facts["file"]] = _draw(work, study, subset, prediction, facts["seen_in_training"])
                index.append(facts)
    order = [work.spec.subset_name(subset) for subset in subsets]
    index.sort(key=lambda facts: (order.index(facts["subset"]), RANKS.index(facts["rank"])))
    legend = LEGEND + ("; below, one missing sequence, made and real." if "image" in work.method.outputs else ".")
    with replace_folder(folder) as draft:
        for name, picture in drawn.items():
            (draft / name).write_bytes(picture)
        for facts in index:
            facts["sha256"] = hashlib.sha256(drawn[facts["file"]]).hexdigest()
        write_record(draft / "index.json", {"format": 1, "legend": legend, "pictures": index})
    return folder


def _facts(work: Evaluation, own: pd.DataFrame, subject: str, subset: Sequence[str], rank: str) -> dict[str, Any]:
    """Entry of ``index.json``."""
    name = work.spec.subset_name(subset)
    rows = own[(own["subject"] == subject) & (own["subset"] == name)]
    dice = rows[rows["metric"] == "dice"]
    return {
        "run": work.run,
        "protocol": work.protocol,
        "dataset": work.dataset,
        "method": work.system,
        "subject": subject,
        "subset": name,
        "rank": rank,
        "file": f"{name}-{rank}.png",
        "dice": {
            str(target): float(value) if np.isfinite(value) else None
            for target, value in zip(dice["target"], dice["value"], strict=True)
        },
        "seen_in_training": bool(rows["seen_in_training"].any()),
    }


def _shown_subsets(work: Evaluation) -> list[tuple[str, ...]]:
    """The largest subset that was scored and the single sequences that tell most; never more than three."""
    if not work.subsets:
        return []
    full = max(work.subsets, key=len)
    singles = [subset for code in SINGLES for subset in work.subsets if subset == (code,)]
    others = [subset for subset in work.subsets if subset != full and subset not in singles]
    return list(dict.fromkeys([full, *singles, *others]))[:3]


def _draw(work: Evaluation, study: Study, subset: Sequence[str], prediction: SubjectPrediction, seen: bool) -> bytes:
    """One picture: the most lesion-laden axial slice with reference and prediction, and a made-up sequence."""
    from anymri.inference.pictures import brain_box, lesion_slices, montage_png, slice_picture, value_range

    image, spec = np.asarray(study.image, np.float32), work.spec
    label = None if study.label is None else np.asarray(study.label)
    shown = next((code for code in BACKGROUND if code in subset), subset[0])
    under = image[spec.index(shown)]
    common: dict[str, Any] = {
        "index": lesion_slices(label, under)["axial"],
        "spacing_mm": study.spacing_mm,
        "box": brain_box(under),
        "height": HEIGHT,
        "spec": spec,
    }
    stamp = "SEEN IN TRAINING" if seen else None
    panels, captions, rows = [], [], []
    if label is not None:
        panels.append(slice_picture(under, label, stamp=stamp, **common))
        captions.append(f"{shown}, reference")
    if prediction.probability is not None and prediction.head is not None:
        found = label_map(prediction.probability, prediction.head, work.method.spec)
        panels.append(slice_picture(under, found, stamp=stamp, **common))
        captions.append(f"{shown}, prediction")
    if panels:
        rows.append(montage_png(panels, captions))
    pair = _made_and_real(work, study, subset, prediction)
    if pair is not None:
        code, made, real = pair
        common["limits"] = value_range(real)
        panels = [slice_picture(made, stamp="SYNTHETIC", **common), slice_picture(real, stamp=stamp, **common)]
        rows.append(montage_png(panels, [f"{code}, made", f"{code}, real"]))
    return _stack(rows)


def _stack(rows: Sequence[bytes]) -> bytes:
    """Pictures one below the other, in few colours: small on a page with many."""
    from io import BytesIO

    from PIL import Image

    from anymri.inference.pictures import png_bytes

    pictures = [Image.open(BytesIO(row)) for row in rows]
    width, height = max(one.width for one in pictures), sum(one.height + 4 for one in pictures) - 4
    canvas = Image.new("RGB", (width, height))
    top = 0
    for one in pictures:
        canvas.paste(one, (0, top))
        top += one.height + 4
    return png_bytes(canvas.quantize(colors=COLOURS, dither=Image.Dither.NONE))


def _made_and_real(
    work: Evaluation, study: Study, subset: Sequence[str], prediction: SubjectPrediction
) -> tuple[str, NDArray[Any], NDArray[Any]] | None:
    """First missing sequence that was made and exists, within the real one's brain."""
    image = prediction.image
    if image is None:
        return None
    for code in BACKGROUND:
        if code not in work.spec.modalities or code in subset:
            continue
        channel = work.spec.index(code)
        if study.present[channel] and bool(prediction.synthesised[channel]):
            real = np.asarray(study.image[channel], np.float32)
            return code, np.where(study.brain([channel]), image[channel].numpy(), 0), real
    return None
