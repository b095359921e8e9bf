"""Time and memory of `anymri predict` on one aligned study, by stage: cold in a new process, then warm in the same one.

    python benchmarks/end_to_end.py ../shared/data/brats2021/BraTS2021_00000 [--runs 5] [--threads 1]

Every run is a new process (files are in the system's cache): cold counts from the start of Python to the written
result, warm is the same study once more. Stages exclude those they call: import (Python and libraries), open (weights),
read, preprocess, checks, network, restore (labels, probabilities), page (pictures, HTML), write (compression, files),
and what is left. Medians over the runs: seconds of the clock and of the processor, share of the whole, highest memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

#: Stage to the functions that make it up, as `module:name` where they are looked up.
STAGES = {
    "open": ("anymri.inference.predict:load",),
    "read": ("anymri.inference.predict:map_parts",),
    "preprocess": ("anymri.inference.predict:preprocess_study", "anymri.inference.predict:settle_axes"),
    "checks": (
        "anymri.inference.predict:check_stripped",
        "anymri.inference.predict:check_same_head",
        "anymri.inference.predict:check_sequences",
        "anymri.inference.predict:judge_study",
    ),
    "network": ("anymri.inference.predict:predict_subject",),
    "restore": ("anymri.inference.predict:restore_prediction", "anymri.inference.predict:_view"),
    "page": ("anymri.inference.output.write:study_page",),
    "write": ("anymri.inference.output.write:write_result",),
}
ORDER = ("import", *STAGES, "rest")


class Clock:
    """Wall and processor seconds of each stage, without those of the stages inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._inside: list[list[float]] = []

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to a stage."""

        def call(*args: Any, **options: Any) -> Any:
            start = _now()
            self._inside.append([0.0, 0.0])
            try:
                return function(*args, **options)
            finally:
                took = [now - then for now, then in zip(_now(), start, strict=True)]
                nested = self._inside.pop()
                for place in range(2):
                    self.seconds[stage][place] += took[place] - nested[place]
                    if self._inside:
                        self._inside[-1][place] += took[place]

        return call

    def stages(self, total: list[float]) -> dict[str, list[float]]:
        """Seconds so far, with what belongs to no stage."""
        known = {stage: self.seconds[stage] for stage in ORDER[:-1]}
        rest = [total[place] - sum(seconds[place] for seconds in known.values()) for place in range(2)]
        return {**known, "rest": rest, "whole": total}


def _now() -> list[float]:
    return [time.time(), time.process_time()]


def predict_twice(study: Path, threads: int, started: float, out: Path) -> None:
    """Cold and warm prediction in this process; prints one line of JSON."""
    found = {}
    clock = Clock()
    places = [(stage, *place.split(":")) for stage, named in STAGES.items() for place in named]
    modules = {module: import_module(module) for _, module, _ in places}
    import torch

    from anymri.data.index import find_study
    from anymri.inference.output import write

    torch.set_num_threads(threads)
    clock.seconds["import"] = [time.time() - started, time.process_time()]
    for stage, module, name in places:
        setattr(modules[module], name, clock.timed(stage, getattr(modules[module], name)))
    predict = modules["anymri.inference.predict"]
    begin = [started, 0.0]
    for kind in ("cold", "warm"):
        opened = predict.load("default")
        result = predict.predict_study(find_study(study).images, model=opened)
        write.write_result(result, out / kind)
        del result
        total = [now - then for now, then in zip(_now(), begin, strict=True)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        found[kind] = {"stages": clock.stages(total), "peak_gib": peak}
        clock.seconds.clear()
        begin = _now()
    print(json.dumps(found))


def machine() -> str:
    """Kind of processor and how many cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Start the runs and print a table of the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="folder of aligned brains, four sequences at 1 mm")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.started:
        predict_twice(options.study, options.threads, options.started, options.out)
        return
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, str(options.study), "--threads", str(options.threads), "--out", folder]
            done = subprocess.run([*command, "--started", str(time.time())], check=True, stdout=subprocess.PIPE)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{options.study.name}, {options.runs} runs, {options.threads} threads; {machine()}\n")
    print("| stage | cold s | share | cold CPU s | warm s | share | warm CPU s |\n|---|---|---|---|---|---|---|")
    for stage in (*ORDER, "whole"):
        cells = []
        for kind in ("cold", "warm"):
            wall, work = (median(run[kind]["stages"][stage][place] for run in runs) for place in range(2))
            share = wall / median(run[kind]["stages"]["whole"][0] for run in runs)
            cells += [f"{wall:.2f}", f"{share:.0%}", f"{work:.2f}"]
        print(f"| {stage} | {' | '.join(cells)} |")
    peaks = [f"{kind} {median(run[kind]['peak_gib'] for run in runs):.2f} GiB" for kind in ("cold", "warm")]
    print(f"\nHighest memory: {', '.join(peaks)}")


if __name__ == "__main__":
    main()
