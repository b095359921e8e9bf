"""Memory of predicting all 255 subsets of eight sequences: sums of at most 16 subsets are held at a time.

    python benchmarks/subset_memory.py [--size 64]

Predicts 15, 16, 32 and 255 subsets of one made-up volume, each in a fresh process and subset by subset as the evaluator
does, and prints the process's highest memory. The limit: 255 subsets take no more than 16, but for 10 %.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

MODALITIES = ("t1", "t1c", "t2", "flair", "pd", "dwi", "adc", "swi")
COUNTS = (16, 32, 255)


def predict(count: int, size: int) -> None:
    """Predict so many subsets in this process and print the highest memory before and after."""
    import torch

    from anymri.data.study import Study
    from anymri.inference.sliding_window import WindowSettings, iterate_subject
    from anymri.methods import create
    from anymri.types import STATISTICS, DataSpec

    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec = DataSpec(MODALITIES)
    method = create("unet", spec, preset="tiny", width=2, depth=2).eval()
    image = torch.randn((len(MODALITIES), size, size, size))
    study = Study.from_arrays(image.numpy(), torch.ones(len(MODALITIES), len(STATISTICS)).numpy())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = time.process_time()
    settings = WindowSettings(overlap=0)
    done = sum(1 for _ in iterate_subject(method, study, spec.subsets()[-count:], settings))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"subsets": done, "more_mib": round((after - before) / 1024, 1), "peak_mib": round(after / 1024, 1)}
    print(json.dumps({**found, "processor_s": round(time.process_time() - work, 1)}))


def main() -> int:
    """Ask fresh processes and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="voxels along each axis of the volume")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        predict(options.count, options.size)
        return 0
    peaks = {}
    for count in COUNTS:
        command = [sys.executable, __file__, "--size", str(options.size), "--count", str(count)]
        line = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()
        peaks[count] = json.loads(line)["peak_mib"]
        print(line, flush=True)
    kept = peaks[255] <= 1.1 * peaks[16]
    print("ok" if kept else "OVER THE LIMIT: memory grows with the number of subsets")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
