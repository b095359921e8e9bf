"""Time and memory of a filter and an average over ten million results.

    python benchmarks/results_table.py [--rows 10000000]

Writes a made-up results table, then answers three questions about it in a fresh process: mean Dice of every method and
subset for one region; the mean of every metric; and one subject's rows. Limits: 3 s and 2 GiB each. Judged are seconds
of processor time, of all threads together; wall-clock time depends on what else the machine does and is printed beside.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 3.0
LIMIT_GIB = 2.0


def write_made_up_table(path: Path, rows: int, piece: int = 1_000_000) -> None:
    """A table like those of the evaluator: methods by folds by subjects by subsets by targets by metrics."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from anymri.evaluation.results import COLUMNS, NUMBERS
    from anymri.types import GLIOMA

    names = {
        "run": [f"run-{i}" for i in range(100)],
        "protocol": ["anymri", "rfnet"],
        "preset": ["tiny", "paper"],
        "method": [f"method_{i:02d}" for i in range(20)],
        "dataset": ["made-up"],
        "subject": [f"subject-{i:04d}" for i in range(1251)],
        "subset": [GLIOMA.subset_name(subset) for subset in GLIOMA.subsets()],
        "target": [*GLIOMA.regions, *GLIOMA.modalities],
        "metric": ["dice", "hd95", "volume_error", "relative_volume_error", "dice_et_min500mm3", "psnr", "ssim", "mae"],
        "unit": ["1", "mm", "ml", "dB", "z"],
    }
    kinds = {"int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, piece):
        count = min(piece, rows - start)
        columns = []
        for name in COLUMNS:
            if name in names:
                codes = pa.array(rng.integers(0, len(names[name]), count, dtype=np.int32))
                columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(names[name])))
            elif name == "value":
                columns.append(pa.array(rng.uniform(size=count)))
            else:
                columns.append(pa.array(rng.integers(0, 2, count)).cast(kinds[NUMBERS[name]]))
        table = pa.table(columns, names=list(COLUMNS))
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def ask(path: Path, question: str) -> None:
    """Answer one question in this process and print seconds, rows and the highest memory use."""
    import pandas  # noqa: F401 - loaded before the clock starts
    import pyarrow.compute
    import pyarrow.dataset  # noqa: F401

    from anymri.benchmark.query import mean_by, select_rows

    start, work = time.perf_counter(), time.process_time()
    if question == "one region":
        answer = len(mean_by(path, ["method", "subset"], {"metric": "dice", "target": "whole_tumor"}))
    elif question == "everything":
        answer = len(mean_by(path, ["protocol", "method", "subset", "target", "metric"]))
    else:
        shown = ["method", "subset", "target", "value"]
        answer = select_rows(path, {"subject": "subject-0007", "metric": "dice"}, shown).num_rows
    wall_s, processor_s = round(time.perf_counter() - start, 2), round(time.process_time() - work, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"question": question, "rows": answer, "processor_s": processor_s, "wall_s": wall_s}
    print(json.dumps({**found, "peak_gib": round(peak, 2)}))


def main() -> int:
    """Write, ask, compare with the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--ask", nargs=2, metavar=("FILE", "QUESTION"))
    options = parser.parse_args()
    if options.ask:
        ask(Path(options.ask[0]), options.ask[1])
        return 0
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.parquet"
        write_made_up_table(path, options.rows)
        print(f"{options.rows} rows, {path.stat().st_size / 2**20:.0f} MiB on disk")
        for question in ("one region", "everything", "one subject"):
            command = [sys.executable, __file__, "--ask", str(path), question]
            line = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()
            found = json.loads(line)
            good = found["processor_s"] < LIMIT_S and found["peak_gib"] < LIMIT_GIB
            kept = kept and good
            print(f"{line}  {'ok' if good else 'OVER THE LIMIT'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
