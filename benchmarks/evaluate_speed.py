"""Time of `anymri evaluate` on all subsets of real studies, beside another working copy of anymri; tables compared.

    python benchmarks/evaluate_speed.py STUDIES --against OTHER_COPY/src [--studies 10] [--runs 3] [--threads 2]

STUDIES holds one folder per labelled study. The bundled model predicts at its spacing and is scored on the grid of
the files. Every run is a new process; the copies take turns. Prints medians, their ratio and the largest difference.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUN = """
import resource, sys, time, torch
from pathlib import Path
from anymri.evaluation import evaluate
work, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]))
start = time.perf_counter()
evaluate("default", work / "model", out, reference=work / "native", progress=False)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def make_caches(studies: Path, count: int, work: Path) -> None:
    """Cache at the model's spacing and on the grid of the files."""
    from anymri.data.index import index_dataset, write_subjects
    from anymri.data.preprocess import preprocess
    from anymri.zoo import open_model

    found = index_dataset(studies, "folder")[:count]
    write_subjects(work / "subjects.csv", found)
    preprocess(work / "subjects.csv", work / "model", spacing_mm=open_model("default").facts.spacing_mm)
    preprocess(work / "subjects.csv", work / "native")


def timed(source: Path, work: Path, out: Path, threads: int) -> tuple[float, float]:
    """Seconds and GiB of one evaluation in a process of its own."""
    command = [sys.executable, "-c", RUN, str(work), str(out), str(threads)]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    seconds, peak = map(float, printed.split()[-2:])
    return seconds, peak


def largest_difference(one: Path, other: Path) -> float:
    """Of the values of two tables with the same rows; infinity if the rows differ."""
    import pandas as pd

    tables = [pd.read_parquet(path) for path in (one, other)]
    rows = [table.drop(columns="value").astype(str) for table in tables]
    if not rows[0].equals(rows[1]) or not tables[0]["value"].isna().equals(tables[1]["value"].isna()):
        return float("inf")
    return float((tables[0]["value"] - tables[1]["value"]).abs().max())


def main() -> None:
    """Time both copies in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", type=Path)
    parser.add_argument("--against", type=Path, required=True, help="the src folder of the other copy")
    parser.add_argument("--studies", type=int, default=10, dest="count")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    copies = {"this": Path(__file__).parents[1] / "src", "other": asked.against.resolve()}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in copies}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_caches(asked.studies, asked.count, work)
        for _ in range(asked.runs):
            for name, source in copies.items():
                measured[name].append(timed(source, work, work / f"{name}.parquet", asked.threads))
        difference = largest_difference(work / "this.parquet", work / "other.parquet")
    medians = {}
    for name, runs in measured.items():
        medians[name] = statistics.median(seconds for seconds, _ in runs)
        print(f"{name}: {medians[name]:.1f} s, {max(peak for _, peak in runs):.2f} GiB")
    print(f"ratio {medians['other'] / medians['this']:.2f}, largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
