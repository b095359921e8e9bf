"""Check what the calibration promises: coverage on phantoms and real cases, claims, alarms; and make calibrations.

    python experiments/trust.py --shared ../shared/data --fold-models fold1.safetensors fold2.safetensors \
        --work work/trust --page docs/results/trust.md

Three steps, each skipped where its file is in the work folder: rows of the real cases by networks that have not seen
them (``glioma_unet.pkl``, ``glioma_phantom_unet.pkl``; with --bundle also the calibrations of the package), rows of
phantoms (``phantoms.pkl``), alarms of other studies (``others.json``). Then the page and its picture.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binomtest

import anymri
from anymri.data.cache import Cache
from anymri.data.geometry import Geometry
from anymri.data.index import index_dataset, write_subjects
from anymri.data.nifti import Volume, read_image
from anymri.data.preprocess import preprocess, preprocess_study
from anymri.evaluation.calibrate import Measured, compare, fit_calibration, fit_predictors, measure_studies
from anymri.evaluation.setup import Evaluation, EvaluationSettings, Subset
from anymri.files import replace_text
from anymri.inference.labels import region_probability, regions
from anymri.inference.sliding_window import WindowSettings, iterate_subject
from anymri.inference.trust.conformal import controlled_threshold, upper_bound
from anymri.inference.trust.expected import alarm, expected_dice, interval, trust_in_study
from anymri.inference.trust.features import region_features, sequence_features, study_features
from anymri.inference.trust.measured import first_sentences, measured_summary
from anymri.phantom import PhantomSettings
from anymri.phantom.subject import make_subject
from anymri.records import write_record
from anymri.types import GLIOMA
from anymri.zoo import calibration_place, open_model, weights_sha256
from anymri.zoo.card import REGION_ML

SPACING_MM, CONFIDENCE = 3.0, 0.8
#: Phantoms: the seed of each part of the pool.
SEEDS = (7001, 7002)
#: Phantoms of a division that calibrate: 70 x 0.9 is whole, so that no rank is rounded up.
CALIBRATING = 69
#: Random divisions of the pool of phantoms.
DIVISIONS = 100
#: Phantoms of each kind against the real calibration.
OTHER_PHANTOMS = 2
MEASURED_ON = {
    "glioma_unet": "thirteen BraTS 2021 cases, by two networks of the same recipe that had not seen them",
    "glioma_phantom_unet": "thirteen BraTS 2021 cases, none of them in training",
}
SHORT = {"whole_tumor": "WT", "tumor_core": "TC", "enhancing_tumor": "ET"}


class Judged(NamedTuple):
    """A region of a study beside what a calibration without it expected."""

    study: str
    subset: str
    region: str
    dice: float
    expected: float
    ends: tuple[float, float] | None


# --------------------------------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------------------------------


def measure_real(networks: Sequence[Path | str], work: Path, shared: Path) -> list[Measured]:
    """Rows of the real cases, each by the first network that has not seen it, scored on the grid of the files."""
    if not (work / "native").exists():
        write_subjects(work / "real.csv", index_dataset(shared / "brats2021", "folder"))
        preprocess(work / "real.csv", work / "cache", spacing_mm=SPACING_MM)
        preprocess(work / "real.csv", work / "native")
    settings = EvaluationSettings(outputs=("logits",), synthesis=False, windows=WindowSettings(precision="auto"))
    prepared = []
    for network in networks:
        prepared.append(Evaluation.prepare(network, work / "cache", settings))
        prepared[-1].reference = Cache(work / "native")
        prepared[-1].choose_subjects(None, 0, "test", None)
    return measure_studies(prepared, progress=True)[0]


def bundle(name: str, networks: Sequence[Path | str], rows: list[Measured]) -> None:
    """Write the calibration that comes with a bundled model."""
    record = replace(
        fit_calibration(rows, GLIOMA, CONFIDENCE),
        weights_sha256=weights_sha256(name),
        model=name,
        measured_on=MEASURED_ON[name],
        by=[weights_sha256(network) for network in networks],
    )
    write_record(calibration_place(name), asdict(record))


def measure_phantoms(count: int) -> Iterator[Measured]:
    """Rows of fresh phantoms by the model that learnt from phantoms, on its own grid; half of each seed."""
    method = open_model("glioma_phantom_unet")
    settings = PhantomSettings(spacing_mm=SPACING_MM, contrast="random")
    windows = WindowSettings(precision="auto", batch_size=4).trained_as(method.facts)
    for seed, index in ((seed, index) for seed in SEEDS for index in range(count // len(SEEDS))):
        made = make_subject(seed, index, settings)
        geometry = Geometry(np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0]), made.label.shape[::-1])
        volumes = {code: Volume(made.images[code].astype(np.float32), geometry, code) for code in GLIOMA.modalities}
        study = preprocess_study(volumes, method.facts.spacing_mm, spec=GLIOMA)
        sequences, voxel_ml = sequence_features(study, GLIOMA), SPACING_MM**3 / 1000
        for subset, found in iterate_subject(method, study, GLIOMA.subsets(), windows, outputs=("logits",)):
            assert found.head is not None
            masks = regions(found.probability, found.head, GLIOMA)
            chances = region_probability(found.probability, found.head, GLIOMA)
            yield Measured(
                study=f"{seed}-{index}",
                subset=subset,
                regions=region_features(found, voxel_ml, GLIOMA),
                features=study_features(found, study, subset, GLIOMA, sequences),
                **compare(masks, chances, np.asarray(made.label), GLIOMA, (SPACING_MM,) * 3),
            )


def alarms_of_others(shared: Path) -> dict[str, list[dict[str, Any]]]:
    """Alarms and first sentences of studies that are no gliomas, or no patients, against the real calibration."""
    model = anymri.load("glioma_unet")
    assert model.calibration is not None
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, volumes in other_studies(shared):
        study = preprocess_study(volumes, model.method.facts.spacing_mm, spec=GLIOMA)
        subsets = [subset for subset in GLIOMA.subsets() if set(subset) <= set(volumes)]
        windows = WindowSettings(precision="auto", batch_size=4).trained_as(model.method.facts)
        for subset, prediction in iterate_subject(model.method, study, subsets, windows, outputs=("logits",)):
            trust = {
                "measured": measured_summary(model.calibration, GLIOMA, subset),
                **trust_in_study(model.calibration, prediction, study, subset, GLIOMA),
            }
            told = first_sentences(trust, GLIOMA, subset)
            whole = trust["expected"].get("whole_tumor")
            row = {"subset": GLIOMA.subset_name(subset), "raised": trust["alarm"]["raised"], "told": bool(told)}
            found.setdefault(kind, []).append({**row, "low": None if whole is None else whole["low"]})
    return found


def other_studies(shared: Path) -> Iterator[tuple[str, dict[str, Volume]]]:
    """What a glioma model should not be asked: the open studies of other kinds, and phantoms of four kinds."""
    folders = {
        "multiple sclerosis": sorted((shared / "openms").iterdir()),
        "stroke (ISLES 2022)": [shared / "isles2022" / "sub-strokecase0009"],
    }
    for kind, places in folders.items():
        for place in places:
            files = {code: place / f"{code}.nii.gz" for code in GLIOMA.modalities}
            yield kind, {code: read_image(path) for code, path in files.items() if path.exists()}
    for pathology in ("glioma", "multiple_sclerosis", "stroke", "none"):
        for index in range(OTHER_PHANTOMS):
            settings = PhantomSettings(spacing_mm=SPACING_MM, contrast="random", pathology=pathology)
            made = make_subject(SEEDS[0] + 100, index, settings)
            geometry = Geometry(np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0]), made.label.shape[::-1])
            images = {code: array for code, array in made.images.items() if code in GLIOMA.modalities}
            volumes = {code: Volume(array.astype(np.float32), geometry, code) for code, array in images.items()}
            yield f"phantoms: {pathology.replace('_', ' ')}", volumes


def cached(path: Path, make: Any) -> Any:
    """What a file holds, or what `make` gives, kept there."""
    if not path.exists():
        path.write_bytes(pickle.dumps(make()))
    return pickle.loads(path.read_bytes())


# --------------------------------------------------------------------------------------------------------------
# Judgement
# --------------------------------------------------------------------------------------------------------------


def judge(
    rows: Sequence[Measured], coefficients: dict[str, list[float]], residuals: dict[str, dict[Subset, list[float]]]
) -> Iterator[Judged]:
    """Regions that are marked, beside what a calibration expects of them; enhancing tumour only where T1c is given."""
    for row in rows:
        subset = GLIOMA.subset_name(row.subset)
        given = [code in row.subset for code in GLIOMA.modalities]
        for region, features in row.regions.items():
            unknown = region == "enhancing_tumor" and "t1c" not in row.subset
            if features.marked_ml < REGION_ML or unknown:
                continue
            point = expected_dice(coefficients[region], features.soft_dice, given)
            ends = interval(point, residuals[region].get(row.subset, []), CONFIDENCE)
            yield Judged(row.study, subset, region, row.dice[region], point, ends)


def leave_one_out(rows: Sequence[Measured]) -> tuple[list[Judged], list[dict[str, Any]], list[dict[str, Any]]]:
    """Judgement, alarms and margins of every study by a calibration of all others."""
    judged: list[Judged] = []
    alarms, margins = [], []
    for name in dict.fromkeys(row.study for row in rows):
        others, own = ([row for row in rows if (row.study == name) is same] for same in (False, True))
        known = fit_calibration(others, GLIOMA, CONFIDENCE)
        judged += judge(own, *fit_predictors(others, GLIOMA))
        for row in own:
            cell = known.subsets[GLIOMA.subset_name(row.subset)]
            alarms.append({"study": name, "subset": GLIOMA.subset_name(row.subset), **alarm(row.features, cell)})
            mm = upper_bound(cell.margins_mm, CONFIDENCE, cell.no_margin)
            n = len(cell.margins_mm) + cell.no_margin
            threshold = controlled_threshold(known.thresholds, cell.missed, n, known.missed_share)
            missed = None if threshold is None else float(row.missed[known.thresholds.index(threshold)])
            own_subset = GLIOMA.subset_name(row.subset)
            margins.append({"subset": own_subset, "mm": mm, "needed": row.margin_mm, "lost": missed})
    return judged, alarms, margins


def divide(rows: Sequence[Measured], seed: int = 0) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Coverage of each subset and region over random divisions of the studies into calibration and test.

    Returns
    -------
    dict of (str, str) to (coverage, its standard deviation over divisions, test rows of the last division)
    """
    names = list(dict.fromkeys(row.study for row in rows))
    by_name: dict[str, list[Measured]] = {name: [] for name in names}
    for row in rows:
        by_name[row.study].append(row)
    generator = np.random.default_rng(seed)
    held: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for _ in range(DIVISIONS):
        order = generator.permutation(len(names))
        half, rest = ([names[place] for place in part] for part in (order[:CALIBRATING], order[CALIBRATING:]))
        known = fit_predictors([row for name in half for row in by_name[name]], GLIOMA)
        cells: dict[tuple[str, str], list[bool]] = {}
        for one in judge([row for name in rest for row in by_name[name]], *known):
            if one.ends is not None:
                inside = one.ends[0] <= one.dice <= one.ends[1]
                cells.setdefault((one.subset, one.region), []).append(inside)
        for cell, values in cells.items():
            held.setdefault(cell, []).append((float(np.mean(values)), len(values)))
    return {
        cell: (
            float(np.mean([share for share, _ in values])),
            float(np.std([share for share, _ in values])),
            values[-1][1],
        )
        for cell, values in held.items()
    }


# --------------------------------------------------------------------------------------------------------------
# Page
# --------------------------------------------------------------------------------------------------------------


def draw(judged: Sequence[Judged], path: Path) -> None:
    """Expected Dice against true Dice, one panel a region; bars are the intervals of T1 alone."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(12, 4.4), sharex=True, sharey=True, layout="constrained")
    for panel, region in zip(panels, SHORT, strict=True):
        own = [one for one in judged if one.region == region]
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for with_flair, colour in ((False, "#c2571a"), (True, "#0b5cad")):
            some = [one for one in own if ("flair" in one.subset) is with_flair]
            label = "with FLAIR" if with_flair else "without FLAIR"
            panel.scatter([one.expected for one in some], [one.dice for one in some], s=14, color=colour, label=label)
        for one in own:
            if one.subset == "t1" and one.ends is not None:
                panel.plot(one.ends, [one.dice] * 2, color="#c2571a", alpha=0.35, linewidth=1)
        panel.set(
            title=f"{region.replace('_', ' ')}, r = {correlation(own):.2f}, n = {len(own)}", xlabel="expected Dice"
        )
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    panels[0].set_ylabel("true Dice")
    panels[0].legend(loc="upper left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def correlation(judged: Sequence[Judged]) -> float:
    return float(np.corrcoef([one.expected for one in judged], [one.dice for one in judged])[0, 1])


def binomial(held: int, n: int) -> str:
    """Count, share and 95 % Clopper-Pearson interval."""
    ends = binomtest(held, n).proportion_ci()
    return f"{held} of {n} ({held / n:.0%}; {ends.low:.0%} to {ends.high:.0%})"


def coverage_lines(judged: Sequence[Judged]) -> list[str]:
    lines = ["| region | true Dice in the interval | below its lower end | mean width | r |", "|---|---|---|---|---|"]
    for region, short in SHORT.items():
        own = [one for one in judged if one.region == region and one.ends is not None]
        held = sum(one.ends[0] <= one.dice <= one.ends[1] for one in own if one.ends)
        below = sum(one.dice < one.ends[0] for one in own if one.ends)
        width = float(np.mean([one.ends[1] - one.ends[0] for one in own if one.ends]))
        cells = (short, binomial(held, len(own)), binomial(below, len(own)), f"{width:.2f}", f"{correlation(own):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def t1_lines(judged: Sequence[Judged]) -> list[str]:
    own = [one for one in judged if one.subset == "t1" and one.ends is not None and one.region != "enhancing_tumor"]
    below = [one for one in own if one.ends and one.dice < one.ends[0]]
    lines = [
        f"From T1 alone the true Dice is below the lower end in {binomial(len(below), len(own))} of the results:",
        "",
    ]
    for one in below:
        assert one.ends is not None
        interval_text = f"expected {one.ends[0]:.2f} to {one.ends[1]:.2f}, true {one.dice:.2f}"
        lines.append(f"- {one.study}, {SHORT[one.region]}: {interval_text}")
    return lines


def phantom_lines(rows: Sequence[Measured]) -> list[str]:
    cells, n = divide(rows), len({row.study for row in rows})
    lines = ["| sequences | " + " | ".join(SHORT.values()) + " |", "|---|---|---|---|"]
    for subset in map(GLIOMA.subset_name, GLIOMA.subsets()):
        shown = [cells.get((subset, region)) for region in SHORT]
        lines.append(f"| {subset} | " + " | ".join("-" if one is None else f"{one[0]:.1%}" for one in shown) + " |")
    worst = max(cells, key=lambda cell: abs(cells[cell][0] - CONFIDENCE))
    far = sum(abs(one[0] - CONFIDENCE) > 0.03 for one in cells.values())
    mean, spread, tested = cells[worst]
    text = (
        f"{far} of {len(cells)} cells lie more than 3 points from {CONFIDENCE:.0%}, the lowest at "
        f"{min(one[0] for one in cells.values()):.1%}. The farthest is {worst[0]}, "
        f"{SHORT[worst[1]]}: {mean:.1%};\nits standard deviation over divisions is {spread:.1%} (about {tested} test "
        f"phantoms each), and the pool of {n} phantoms alone gives a\nstandard error of about "
        f"{np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / n):.1%}."
    )
    return [*lines, "", text]


def alarm_lines(alarms: Sequence[dict[str, Any]], others: dict[str, list[dict[str, Any]]]) -> list[str]:
    raised = sum(row["raised"] for row in alarms)
    lines = [
        "| studies | results | alarm | no alarm, first line: not usable or bad | neither | of these, lower end >= 0.5 |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    lines.append(
        f"| the 13 gliomas, each against the other 12 | {len(alarms)} | {binomial(raised, len(alarms))} | | | |"
    )
    for kind, rows in others.items():
        told = sum(row["told"] and not row["raised"] for row in rows)
        neither = [row for row in rows if not row["told"]]
        sure = sum(row["low"] is not None and row["low"] >= 0.5 for row in neither)
        alarmed = sum(row["raised"] for row in rows)
        lines.append(
            f"| {kind} | {len(rows)} | {alarmed} ({alarmed / len(rows):.0%}) | {told} | {len(neither)} | {sure} |"
        )
    return lines


def margin_lines(margins: Sequence[dict[str, Any]]) -> list[str]:
    known = [row for row in margins if np.isfinite(row["mm"])]
    held = sum(row["needed"] <= row["mm"] for row in known)
    lost = [row["lost"] for row in margins if row["lost"] is not None]
    by = {
        name: np.median([row["mm"] for row in known if row["subset"] == name])
        for name in ("t1", "flair", "t1+t1c+t2+flair")
    }
    sizes = ", ".join(f"{mm:.0f} mm from {name}" for name, mm in by.items())
    held_text = f"held in {binomial(held, len(known))}; median {sizes}"
    missed = f"it missed {np.mean(lost):.1%} of the tumour on average, the worst {max(lost):.0%}"
    return [
        f"- Margin (95 % of the tumour, stated probability {CONFIDENCE:.0%}): {held_text}.",
        f"- Cautious mask: promised in {len(lost)} of {len(margins)} results (at most 20 %); {missed}.",
    ]


def write_page(page: Path, work: Path, others: dict[str, list[dict[str, Any]]]) -> None:
    """The page of results and its picture."""
    phantoms = pickle.loads((work / "phantoms.pkl").read_bytes())
    real = pickle.loads((work / "glioma_unet.pkl").read_bytes())
    judged, alarms, margins = leave_one_out(real)
    picture = page.parent / "trust.png"
    draw(judged, picture)
    count = len({row.study for row in phantoms})
    text = PAGE.format(
        count=count, divisions=DIVISIONS, calibrating=CALIBRATING, phantoms="\n".join(phantom_lines(phantoms)),
        coverage="\n".join(coverage_lines(judged)), t1="\n".join(t1_lines(judged)),
        alarms="\n".join(alarm_lines(alarms, others)), margins="\n".join(margin_lines(margins)),
    )  # fmt: skip
    replace_text(page, text)


PAGE = """# How far the stated trust can be trusted

What [expected Dice, intervals, margin and alarm](../explanation/trust.md) are worth. Made by
`python experiments/trust.py --shared ../shared/data --fold-models fold1.safetensors fold2.safetensors --work work/trust
--page docs/results/trust.md` on 2026-11-30, one thread of a busy two-core x86-64 with AVX-512 bfloat16. The fold
networks are those of [the recipe](glioma-whole-brain.md); each of the thirteen cases is predicted by the one that had
not seen it. Confidence 0.8 everywhere.

## Coverage on phantoms

`glioma_phantom_unet` on {count} fresh phantoms (seeds 7001 and 7002, 3 mm, random contrast), {divisions} random
divisions of this one pool into {calibrating} that calibrate and the others that test (seed 0), mean coverage:

{phantoms}

Where a region is not marked in every phantom (core, enhancing part) the number that calibrates is smaller and the rank
is rounded up. With other sizes so, too: of thirteen patients both ends together promise 12 / 14 = 86 %.

## The thirteen real cases, each left out

Calibrated on the other twelve, all fifteen subsets, scored on the 1 mm grid of the files. Rows of one patient are not
independent, so the binomial intervals are too narrow. Enhancing tumour: subsets with T1c.

{coverage}

![Expected against true Dice of the thirteen cases](trust.png)

{t1}

{margins}

## Alarm

Against the calibration of `glioma_unet`, all subsets of the sequences that there are:

{alarms}

## What this does not show

- With twelve patients the ends are the extreme ones: intervals are wide (half of the scale for the whole tumour) and
  hold more often than stated.
- How well a core or an enhancing part is outlined is hardly told by the network's probabilities: their expected Dice is
  little more than the mean with a wide interval. The aim of a correlation of 0.7 is reached for the whole tumour alone.
- The predictor is among those with the fewest features of a dozen compared on these thirteen cases (others had about
  the same or worse correlations), so its correlations are a little optimistic. No setting of the alarm was chosen on
  the studies of its table.
- The alarm is weak: many studies of other kinds pass it (table), since thirteen patients differ a lot among themselves.
  What then remains is the first line and a low lower end; the last column counts those that have neither. The average
  healthy brain (ICBM 152, T1 and T2, `--raw`) passes the alarm, too; its first line says that the outline is probably
  bad, expected Dice 0.00 to 0.22. Of the stroke, on FLAIR, the lower end is 0.32, and nothing but the model's scope
  warns.
- The fold networks learnt from six and seven patients, the bundled one from thirteen; that it is no worse is assumed.
"""


def main() -> None:
    """Run the missing steps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder of the open data")
    parser.add_argument(
        "--fold-models", type=Path, nargs="+", required=True, help="networks that have not seen all cases"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--page", type=Path, required=True)
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--bundle", action="store_true", help="write the calibrations of the bundled models, too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    for name, networks in {
        "glioma_unet": arguments.fold_models,
        "glioma_phantom_unet": ["glioma_phantom_unet"],
    }.items():
        if name == "glioma_unet" or arguments.bundle:
            rows = cached(work / f"{name}.pkl", lambda own=networks: measure_real(own, work, arguments.shared))
            if arguments.bundle:
                bundle(name, networks, rows)
    cached(work / "phantoms.pkl", lambda: list(measure_phantoms(arguments.phantoms)))
    path = work / "others.json"
    if not path.exists():
        replace_text(path, json.dumps(alarms_of_others(arguments.shared)))
    write_page(arguments.page, work, json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
