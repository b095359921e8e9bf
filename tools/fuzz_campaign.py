"""Campaign of damaged inputs: some thousands over ten kinds, each in a process of its own, and a table by kind.

`python tools/fuzz_campaign.py --inputs 2000 --seed 1 --page docs/results/damaged-inputs.md`. What goes wrong is kept under
`--keep` with the line that describes it, so that it can be looked at and tried again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

import torch  # noqa: E402
from damaged_inputs import FAULTS, Bench  # noqa: E402
from good_inputs import INPUTS, KINDS  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--keep", type=Path, default=Path("/tmp/fuzz"))
    parser.add_argument("--only", help="name of one input")
    parser.add_argument("--number", type=int, help="try this number alone")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    kinds = asked.kind or KINDS
    asked.keep.mkdir(parents=True, exist_ok=True)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        bench = Bench(Path(folder), forked=True)
        for kind in kinds:
            items = [item for item in INPUTS if item.kind == kind and asked.only in (None, item.name)]
            begin = time.process_time(), time.monotonic()
            for number in range(asked.inputs // len(kinds)):
                if asked.number in (None, number):
                    item = items[number % len(items)]
                    counts[kind][_one(bench, item, Random(f"{asked.seed} {kind} {number}"), number, asked.keep)] += 1
            print(kind, dict(counts[kind]), f"{time.monotonic() - begin[1]:.0f} s", flush=True)
    return sum(counts[kind][fault] for kind in kinds for fault in FAULTS) > 0


def _one(bench: Bench, item, random: Random, number: int, keep: Path) -> str:
    place = bench.folder / "case"
    bench.expected(item)
    damage = bench.damage(item, random, place)
    begin = time.monotonic()
    verdict = bench.judge(item, place, damage)
    seconds = time.monotonic() - begin
    line = f"{verdict.what:10} {item.kind} {number} [{item.name}] {damage.text[:200]!r} -> {verdict.text[-1500:]}"
    with (keep / "all.txt").open("a", errors="replace") as log:
        log.write(f"{seconds:.1f} s {line}\n")
    if verdict.what in FAULTS:
        kept = keep / item.kind / str(number)
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(exist_ok=True)
        place.rename(kept)
        (kept / "fault.txt").write_text(line, errors="replace")
    shutil.rmtree(place, ignore_errors=True)
    return verdict.what


if __name__ == "__main__":
    raise SystemExit(main())
