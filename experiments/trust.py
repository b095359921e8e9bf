"""Check what the calibration promises: coverage on phantoms and real cases, claims, alarms; and make calibrations.

    python experiments/trust.py --shared ../shared/data --fold-models fold1.safetensors fold2.safetensors \
        --work work/trust --page docs/results/trust.md

Three steps, each skipped where its file is in the work folder: rows of the real cases by networks that have not seen
them (``glioma_unet.pkl``, ``glioma_phantom_unet.pkl``; with --bundle also the calibrations of the package), rows of
phantoms (``phantoms.pkl``), alarms of other studies (``others.json``). Then the page and its picture.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import anymri
from anymri.data.geometry import Geometry
from anymri.data.index import index_dataset, write_subjects
from anymri.data.nifti import Volume
from anymri.data.preprocess import preprocess, preprocess_study
from anymri.evaluation.calibrate import Measured, compare, fit_calibration, fit_predictors, measure_studies
from anymri.evaluation.setup import Evaluation, EvaluationSettings, Subset
from anymri.inference.labels import region_probability, regions
from anymri.inference.sliding_window import WindowSettings, iterate_subject
from anymri.inference.trust.conformal import controlled_threshold, upper_bound
from anymri.inference.trust.expected import alarm, expected_dice, interval
from anymri.inference.trust.features import region_features, sequence_features, study_features
from anymri.phantom import PhantomSettings
from anymri.phantom.subject import make_subject
from anymri.records import write_record
from anymri.types import GLIOMA
from anymri.zoo import open_model, weights_sha256
from anymri.zoo.card import REGION_ML

SPACING_MM, CONFIDENCE = 3.0, 0.8
#: Phantoms: the seed of each part of the pool.
SEEDS = (7001, 7002)
#: Random divisions of the pool of phantoms.
DIVISIONS = 200
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


def measure_real(name: str, networks: Sequence[Path | str], work: Path, shared: Path) -> list[Measured]:
    """Rows of the real cases, each by the first network that has not seen it, scored on the grid of the files."""
    if not (work / "native").exists():
        write_subjects(work / "real.csv", index_dataset(shared / "brats2021", "folder"))
        preprocess(work / "real.csv", work / "cache", spacing_mm=SPACING_MM)
        preprocess(work / "real.csv", work / "native")
    settings = EvaluationSettings(outputs=("logits",), synthesis=False, windows=WindowSettings(precision="auto"))
    prepared = []
    for network in networks:
        prepared.append(Evaluation.prepare(network, work / "cache", settings))
        prepared[-1].reference = anymri.data.cache.Cache(work / "native")
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
    write_record(anymri.zoo.calibration_place(name), asdict(record))


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
            masks = regions(found.probability, found.head, GLIOMA)
            chances = region_probability(found.probability, found.head, GLIOMA)
            yield Measured(
                study=f"{seed}-{index}",
                subset=subset,
                regions=region_features(found, voxel_ml, GLIOMA),
                features=study_features(found, study, subset, GLIOMA, sequences),
                **compare(masks, chances, np.asarray(made.label), GLIOMA, (SPACING_MM,) * 3),
            )


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
    """Coverage of each subset and region over random divisions of the studies into calibration and test halves.

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
        half = [names[place] for place in order[: len(names) // 2]]
        rest = [names[place] for place in order[len(names) // 2 :]]
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
