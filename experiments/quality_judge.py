"""Make the numbers of `anymri.inference.trust.quality`: how strongly an image is spoiled, by artifact.

    python experiments/quality_judge.py measure --part train --subjects 80 --work /tmp/quality
    python experiments/quality_judge.py measure --part test --subjects 20 --work /tmp/quality
    python experiments/quality_judge.py measure --part real --real ../shared/data/brats2021 --work /tmp/quality
    python experiments/quality_judge.py fit --work /tmp/quality

Phantoms and real cases, at 3 mm, are spoiled by the artifacts of `anymri.phantom.artifacts`, with a head drawn around
the brain. Of the training part every image is measured as it is and with four artifacts of random strength, of the
others with every artifact at strength 0.7. Rows are kept by subject, so that a broken run goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sequence_judge import settings as sequence_settings

from anymri.data.appearance.brain_frame import blocks
from anymri.data.nifti import read_image
from anymri.inference.trust import same_head
from anymri.inference.trust.quality import judge
from anymri.inference.trust.quality.agreement import AGREEMENT, best_agreement, pair_agreement
from anymri.inference.trust.quality.judge import predict_severity
from anymri.inference.trust.quality.measures import AIR, measure_brain, small_brain
from anymri.phantom import PhantomSettings, make_subject
from anymri.phantom.artifacts import Scan, artifact_stream, cut_back, draw_shell, impose_artifacts, put_in_head
from anymri.phantom.artifacts.head import Shell
from anymri.phantom.settings import Grid

OUT = Path(__file__).resolve().parents[1] / "src" / "anymri" / "inference" / "trust" / "quality" / "judge.npz"
#: Voxel size of phantoms and real cases, in mm: the grid of the bundled models.
STEP_MM = 3.0
CODES = ("t1", "t1c", "t2", "flair")
ARTIFACTS = (
    "misregistration", "bias_field", "susceptibility", "motion", "ghosting", "aliasing", "gibbs", "spike", "zipper",
    "low_snr", "rf_overflow", "thick_slices", "missing_slices", "partial_coverage",
)  # fmt: skip
#: All that are judged, in the order of the package, and those that one image shows alone.
JUDGED = list(judge.ARTIFACTS)
OWN = [name for name in JUDGED if name != "misregistration"]
#: Fit: standard deviations at which measures are clipped, hidden units, steps, weight decay, penalty on the absolute
#: weights, and weight of spoiled images beside the many others.
#: Least severity that is called doubtful, parts of the cross-validation, and whether real cases are fitted to as well.
LEAST_DOUBTFUL, FOLDS, REAL_FOLDS, USE_REAL = 0.3, 4, 4, True
CLIP, HIDDEN, STEPS, DECAY, PENALTY, POSITIVE = 4.0, 12, 300, 0.02, 0.02, 4.0
SEEDS = {"train": 51, "test": 52, "real": 53}
STRENGTH = 0.7


def settings(index: int) -> PhantomSettings:
    """Settings of a phantom as the judge of sequences has them, ideal and with the four sequences alone."""
    plain = PhantomSettings()
    return replace(
        sequence_settings(index), spacing_mm=STEP_MM, artifact_rate=plain.artifact_rate, modalities=plain.modalities
    )


def brain_grid(brain: np.ndarray) -> Grid:
    """Box of a brain in the imaged volume."""
    ends = [np.flatnonzero(brain.any(axis=other))[[0, -1]] for other in ((1, 2), (0, 2), (0, 1))]
    first, second, third = (int(low) for low, _ in ends)
    stop = tuple(int(high) + 1 for _, high in ends)
    return Grid(STEP_MM, (first, second, third), (stop[0], stop[1], stop[2]))


def air_of(grid: Grid) -> dict[str, tuple[np.ndarray, float]]:
    """Air-filled cavities by the brain's box, for heads that were not drawn."""
    centres = [
        (np.array(grid.start) + np.array(place) * np.array(grid.shape)) * STEP_MM - np.array([8.0, 0, 0])
        for place in AIR
    ]
    return dict(
        zip(("ethmoid sinus", "left ear", "right ear"), zip(centres, (14.0, 10.0, 10.0), strict=True), strict=True)
    )


def read_case(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Images and labels of a real case at 3 mm; a voxel is brain where half of it is, and has its commonest label."""
    images = {}
    for code in CODES:
        values, share = blocks(read_image(folder / f"{code}.nii.gz").array, [3, 3, 3])
        images[code] = np.where(share >= 0.5, values, 0).astype(np.float32)
    label = read_image(folder / "seg.nii.gz", "label").array
    counts = np.stack([blocks((label == value).astype(np.float32), [3, 3, 3])[1] for value in range(5)])
    return images, counts.argmax(axis=0).astype(np.uint8)


class Study:
    """Images of one study that can be spoiled one by one."""

    def __init__(self, images: dict[str, np.ndarray], seed: int, index: int, facts: dict[str, Any] | None) -> None:
        self.images, self.seed, self.index = images, seed, index
        brain = np.logical_or.reduce([image != 0 for image in images.values()])
        self.grid = brain_grid(brain)
        self.shell: Shell = draw_shell(
            artifact_stream(seed, index, "head", "shell"), brain[self.grid.slices], self.grid
        )
        generator = np.random.default_rng([seed, index])
        self.axis = {code: int(generator.choice(3, p=[0.7, 0.15, 0.15])) for code in images}
        self.air = air_of(self.grid)
        if facts is not None:
            self.axis = {code: facts["artifacts"][code]["slice_axis"] for code in images}
            self.air = {name: (np.array(values[:3]), values[3]) for name, values in facts["air_mm"].items()}
        self.edges = {code: self.find_edges(image) for code, image in images.items()}

    @staticmethod
    def find_edges(image: np.ndarray) -> Any:
        """Edges for `same_head`, on the whole array."""
        return same_head._edges(image, (STEP_MM,) * 3)

    def spoil(self, code: str, artifact: str, strength: float) -> np.ndarray:
        """One image with an artifact; 0 outside of what is left of the brain."""
        image = self.images[code][self.grid.slices].astype(np.float64)
        scan = Scan(image, image != 0, self.grid, self.axis[code], air_mm=self.air)
        stream = partial(artifact_stream, self.seed, self.index, code)
        spoiled, _ = impose_artifacts(put_in_head(scan, self.shell, code), {artifact: strength}, stream)
        spoiled = cut_back(spoiled, self.grid)
        out = np.zeros_like(self.images[code])
        out[self.grid.slices] = np.where(spoiled.seen, np.maximum(spoiled.image, 1e-3 * scan.level), 0)
        return out

    def measure(self, code: str, image: np.ndarray) -> dict[str, float] | None:
        """Measures of one image among the others as they are."""
        brain = small_brain(image, (STEP_MM,) * 3)
        if brain is None:
            return None
        found = measure_brain(brain)
        edges = {**self.edges, code: self.find_edges(image)}
        edges = {name: part for name, part in edges.items() if part is not None}
        masks = {name: (image if name == code else self.images[name]) != 0 for name in edges}
        pairs = []
        for one, other in combinations(edges, 2):
            if code in (one, other):
                fits = same_head._compare({one: edges[one], other: edges[other]})
                pairs += [pair_agreement(fit, masks[one], masks[other], [STEP_MM] * 3) for fit in fits.values()]
        return found | (best_agreement(pairs) if pairs else {})


def measure_study(study: Study, part: str) -> list[dict[str, Any]]:
    """Rows of one study."""
    rows = []
    generator = np.random.default_rng([study.seed, study.index, 1])
    for code in study.images:
        wanted = [("none", 0.0)]
        if part == "train":
            chosen = generator.choice(len(ARTIFACTS), 4, replace=False)
            wanted += [(ARTIFACTS[number], float(generator.uniform(0.1, 1))) for number in chosen]
        elif part == "real":
            wanted += [(name, STRENGTH) for name in ARTIFACTS]
            wanted += [(ARTIFACTS[number], 0.3) for number in generator.choice(len(ARTIFACTS), 2, replace=False)]
        else:
            wanted += [(name, STRENGTH) for name in ARTIFACTS]
        for artifact, strength in wanted:
            image = study.images[code] if artifact == "none" else study.spoil(code, artifact, strength)
            found = study.measure(code, image)
            rows.append({"code": code, "artifact": artifact, "strength": strength, "measures": found})
    return rows


def measure(part: str, subjects: list[int], real: Path | None, work: Path) -> None:
    """Rows of every subject of a part that has none yet."""
    folder = work / "rows" / part
    folder.mkdir(parents=True, exist_ok=True)
    names = [str(index) for index in subjects]
    if real is not None:
        names = sorted(path.name for path in real.iterdir() if path.is_dir())
    for index, name in enumerate(names):
        out = folder / f"{name}.json"
        if out.exists():
            continue
        if real is not None:
            study = Study(read_case(real / name)[0], SEEDS[part], index, None)
        else:
            subject = make_subject(SEEDS[part], int(name), settings(int(name)))
            study = Study(subject.images, SEEDS[part], int(name), subject.parameters)
        out.write_text(json.dumps(measure_study(study, part)))
        print(part, name, flush=True)


class Table:
    """Rows of one part as arrays."""

    def __init__(self, work: Path, part: str) -> None:
        files = sorted((work / "rows" / part).glob("*.json"))
        self._fill([(path.stem, row) for path in files for row in json.loads(path.read_text())], part)

    @classmethod
    def of(cls, rows: list[tuple[str, dict[str, Any]]], part: str) -> Table:
        """Rows in memory, each with the name of its subject."""
        table = object.__new__(cls)
        table._fill(rows, part)
        return table

    def _fill(self, rows: list[tuple[str, dict[str, Any]]], part: str) -> None:
        rows = [(name, row) for name, row in rows if row["measures"]]
        first = next(row["measures"] for _, row in rows)
        self.names = [name for name in first if name not in AGREEMENT]
        self.own = np.array([[row["measures"][name] for name in self.names] for _, row in rows])
        self.pair = np.array([[row["measures"].get(name, np.nan) for name in AGREEMENT] for _, row in rows])
        self.group = np.array([f"{part} {name}" for name, _ in rows])
        self.code = np.array([row["code"] for _, row in rows])
        self.artifact = np.array([row["artifact"] for _, row in rows])
        self.strength = np.array([row["strength"] for _, row in rows])

    def take(self, chosen: np.ndarray) -> Table:
        """Some of the rows."""
        part = object.__new__(Table)
        part.names = self.names
        for name in ("own", "pair", "group", "code", "artifact", "strength"):
            setattr(part, name, getattr(self, name)[chosen])
        return part

    def join(self, other: Table) -> Table:
        """The rows of both."""
        part = object.__new__(Table)
        part.names = self.names
        for name in ("own", "pair", "group", "code", "artifact", "strength"):
            setattr(part, name, np.concatenate([getattr(self, name), getattr(other, name)]))
        return part


def fit_part(rows: np.ndarray, target: np.ndarray, weight: np.ndarray, part: str) -> dict[str, np.ndarray]:
    """Numbers of one logistic function with a small hidden layer, for `predict_severity`."""
    torch.manual_seed(0)
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    scaled = torch.from_numpy(np.clip((rows - mean) / spread, -CLIP, CLIP)).float()
    wanted, weights = torch.from_numpy(target).float(), torch.from_numpy(weight).float()
    inputs, outputs = rows.shape[1], target.shape[1]
    first, direct = torch.nn.Linear(inputs, HIDDEN), torch.nn.Linear(inputs, outputs, bias=False)
    last = torch.nn.Linear(HIDDEN, outputs)
    torch.nn.init.zeros_(direct.weight)
    numbers = [*first.parameters(), *direct.parameters(), *last.parameters()]
    optimiser = torch.optim.AdamW(numbers, lr=0.01, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        logits = direct(scaled) + last(torch.tanh(first(scaled)))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, weight=weights)
        loss = loss + PENALTY * (direct.weight.abs().mean() + first.weight.abs().mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    found = {
        "mean": mean, "spread": spread, "direct": direct.weight.T, "hidden": first.weight.T,
        "hidden intercept": first.bias, "output": last.weight.T, "intercept": last.bias,
    }  # fmt: skip
    return {f"{part} {name}": np.asarray(torch.as_tensor(value).detach(), np.float64) for name, value in found.items()}


def fit(table: Table) -> dict[str, np.ndarray]:
    """Numbers of the judge, without limits."""
    own = table.artifact != "misregistration"
    target = np.stack([table.strength * (table.artifact == name) for name in OWN], axis=1)
    weight = np.where(target > 0, POSITIVE, 1.0)
    saved: dict[str, np.ndarray] = {"names": np.array(table.names), "artifacts": np.array(OWN), "clip": np.array(CLIP)}
    saved |= fit_part(table.own[own], target[own], weight[own], "own")
    paired = ~np.isnan(table.pair[:, 0])
    target = (table.strength * (table.artifact == "misregistration"))[:, None]
    weight = np.where(target > 0, POSITIVE, 1.0)
    return saved | fit_part(table.pair[paired], target[paired], weight[paired], "pair")


def severities(saved: dict[str, np.ndarray], table: Table) -> np.ndarray:
    """Severity of every artifact of `judge.ARTIFACTS` (columns) in every row; NaN where it cannot be judged."""
    found = np.full((len(table.code), len(JUDGED)), np.nan)
    own = predict_severity(saved, "own", table.own)
    for column, name in enumerate(OWN):
        found[:, JUDGED.index(name)] = own[:, column]
    paired = ~np.isnan(table.pair[:, 0])
    found[paired, JUDGED.index("misregistration")] = predict_severity(saved, "pair", table.pair[paired])[:, 0]
    return found


def left_out(table: Table, others: Table | None, folds: int) -> np.ndarray:
    """Severities of every row by numbers fitted without its subject."""
    names = np.unique(table.group)
    found = np.full((len(table.code), len(JUDGED)), np.nan)
    for fold in range(folds):
        held = np.isin(table.group, names[fold::folds])
        rest = table.take(~held)
        found[held] = severities(fit(rest if others is None else rest.join(others)), table.take(held))
    return found


def auroc(bad: np.ndarray, good: np.ndarray) -> float:
    """Probability that a spoiled image is judged worse than an unspoiled one."""
    bad, good = bad[~np.isnan(bad)], good[~np.isnan(good)]
    if not len(bad) or not len(good):
        return float("nan")
    more = (bad[:, None] > good[None]).mean() + 0.5 * (bad[:, None] == good[None]).mean()
    return float(more)


def auroc_table(table: Table, found: np.ndarray, strength: float = STRENGTH) -> dict[str, dict[str, float]]:
    """AUROC by artifact and sequence."""
    result: dict[str, dict[str, float]] = {}
    for column, name in enumerate(JUDGED):
        bad = (table.artifact == name) & np.isclose(table.strength, strength)
        result[name] = {
            code: auroc(
                found[bad & (table.code == code), column],
                found[(table.artifact == "none") & (table.code == code), column],
            )
            for code in CODES
        }
    return result


def doubtful_limits(table: Table, found: np.ndarray) -> np.ndarray:
    """Severity that one in a hundred unspoiled images reaches, for every artifact; at least `LEAST_DOUBTFUL`."""
    clean = found[table.artifact == "none"]
    return np.maximum(np.nanquantile(clean, 0.99, axis=0), LEAST_DOUBTFUL)


def write(work: Path, out: Path) -> None:
    """Fit to the training phantoms and all real cases, and write the package's file."""
    phantoms = Table(work, "train")
    real = Table(work, "real") if USE_REAL and (work / "rows" / "real").is_dir() else None
    saved = fit(phantoms if real is None else phantoms.join(real))
    every, found = phantoms, left_out(phantoms, real, FOLDS)
    if real is not None:
        every, found = phantoms.join(real), np.concatenate([found, left_out(real, phantoms, REAL_FOLDS)])
    saved |= {"doubtful": doubtful_limits(every, found), "codes": np.array(CODES)}
    saved["unusable"] = np.full((len(JUDGED), len(CODES)), np.inf)
    if (work / "unusable.json").is_file():
        limits = json.loads((work / "unusable.json").read_text())
        saved["unusable"] = np.array([[limits[name][code] or np.inf for code in CODES] for name in JUDGED])
    rounded = {name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in saved.items()}
    np.savez_compressed(out, **rounded)  # type: ignore[arg-type]
    print(f"wrote {out} ({out.stat().st_size / 1000:.0f} kB), from {len(np.unique(phantoms.group))} phantoms", end="")
    print("" if real is None else f" and {len(np.unique(real.group))} real cases")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("measure", "fit"))
    parser.add_argument("--part", choices=tuple(SEEDS), default="train")
    parser.add_argument("--subjects", type=int, default=80)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.step == "measure":
        subjects = list(range(arguments.start, arguments.start + arguments.subjects))
        measure(arguments.part, subjects, arguments.real, arguments.work)
    else:
        write(arguments.work, OUT)


if __name__ == "__main__":
    main()
