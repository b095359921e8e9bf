"""Campaign of damaged inputs: some thousands over ten kinds, each in a process of its own, and a table by kind.

    python tools/fuzz_campaign.py --inputs 2000 --seed 1 --page docs/results/damaged-inputs.md

What goes wrong is kept in the folder of `--keep` with the line that describes it; `--kind` and `--number` try it again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

from damaged_inputs import FAULTS, VERDICTS, Bench  # noqa: E402
from good_inputs import INPUTS, KINDS  # noqa: E402

PAGE = """# Damaged inputs

{given} inputs of ten kinds: good small files with damage, each used in a process of its own by the verb or the reader
that it is for. Made by

    {command}

on a two-core x86-64 machine without a GPU, {day}. The same command gives the same inputs.

{table}

- *refused*: one line that names the file, the problem and the remedy, exit code 2, and nothing left behind.
- *same result*: the damage was mended, or lay where nothing is read: every voxel, place and number is as without it.
- *with a warning*: the result differs, and a warning says so.
- *another good file*: the damage made a file that keeps the rules of its format and says something else (a voxel in a
  format without a checksum, another scale factor, a row less of a table, another learning rate), by the rules below.
- faults: *differs silently*; a *traceback*; an *abort* (a signal, or an end without a word); *hangs* (20 s of the
  processor, or of waiting); *memory* (2 GiB more than before); *litter* (something left behind after a refusal, or a
  refusal of several lines).

## What counts as another good file

Damage may make a file that keeps every rule of its format and says something else. No reader can tell; whatever
breaks one of these rules has to be refused or told. The rules were put into words on 2026-11-30, before a first input
of seed 4 was tried, and are what `tests/fuzz/other_content.py` and `damaged_inputs.py` hold, by other readers than
the program's.

1. What carries a checksum (packed voxels, caches, records, weights, tables of results, checkpoints) is never another
   good file.
2. The value of a voxel, in a format without a checksum, behind a header that describes as many voxels as before.
3. A value that one field alone gives and that an image of a head may have: voxels of 0.02 to 50 mm, a middle at most
   500 mm from the origin of the world, directions, order of bytes, a whole-number type of the same size, numbers of
   voxels with the same product, a scale factor that is a finite number and not 0. Where a second field says the same,
   it has to agree.
4. A place less than half a voxel from what a second field says (NIfTI's two forms, and voxel sizes within 1 %), and a
   slice within a tenth of the slices' distance (DICOM): so much difference is told nowhere.
5. Lines that tell nothing of voxels or place, their order, and a line that comes twice with the same value.
6. In one DICOM slice: its pixels, its scale, its own identifier and number, the empty bytes in front, and fields that
   no reader knows. Not what the slices of a series share: that one slice says otherwise has to be told.
7. A table of RFC 4180 in UTF-8 without control characters whose rows are as long as its header, JSON of RFC 8259 and
   one YAML document, without a key twice and without numbers that are not finite, with other values.
8. A run configuration that keeps these rules and asks for more steps, larger patches or a larger network than the
   good one may train for longer than 20 s.
9. A whole archive of the same slices, or of those up to one end; a series without its first or last slice, a data set
   without a description that is optional. Not where something else lies in the place of a file: a folder, a pipe, a
   link.

## What is damaged, and how

{inputs}

Bytes are cut off, doubled, exchanged, zeroed, flipped, put in front or behind. Header fields and values are set to
extremes (0, -1, NaN, infinity, 2^31, texts of 70,000 letters), are missing, doubled, renamed or elsewhere. Text comes
in other encodings and with other line ends, in brackets up to 100,000 deep, with entities that grow and objects of
Python. Archives hold archives, bombs of 3 GiB, and names and links that lead out of the folder. Under the name of a
file lies a folder, a pipe, `/dev/zero`, or a link to nothing, to itself or elsewhere.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--number", type=int, help="try this number of each kind alone")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that show a fault; default: a temporary one")
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep = asked.keep or Path(tempfile.mkdtemp(prefix="fuzz-"))
    keep.mkdir(parents=True, exist_ok=True)
    kinds = asked.kind or KINDS
    each = range(asked.inputs // len(kinds)) if asked.number is None else [asked.number]
    counts: dict[str, Counter[str]] = {}
    # Forked: what is imported here is so in every process.
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("fork")) as pool:
        works = {kind: pool.submit(_try_kind, kind, each, asked.seed, keep) for kind in kinds}
        for kind, work in works.items():
            counts[kind] = work.result()
            print(
                f"{kind:12}", ", ".join(f"{count} {what}" for what, count in sorted(counts[kind].items())), flush=True
            )
    wrong = sum(count[fault] for count in counts.values() for fault in FAULTS)
    if asked.page:
        asked.page.write_text(
            _page(counts, f"python tools/fuzz_campaign.py --inputs {asked.inputs} --seed {asked.seed}")
        )
    print(f"{wrong} faults; log and inputs: {keep}")
    return int(wrong > 0)


def _try_kind(kind: str, numbers: Iterable[int], seed: int, keep: Path) -> Counter[str]:
    """Damaged inputs of one kind; how many came to what."""
    items = [item for item in INPUTS if item.kind == kind for _ in range(3 if item.quick else 1)]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        bench = Bench(Path(folder), forked=True)
        for number in numbers:
            counts[_try(bench, items[number % len(items)], Random(f"{seed} {kind} {number}"), number, keep)] += 1
    return counts


def _try(bench: Bench, item: Any, random: Random, number: int, keep: Path) -> str:
    """One damaged input; what became of it."""
    place = bench.folder / "case"
    bench.expected(item)
    damage = bench.damage(item, random, place)
    begin = time.monotonic()
    verdict = bench.judge(item, place, damage)
    what = f"{verdict.what:10} {item.kind} {number} [{item.name}] {damage.text[:200]!r}"
    line = f"{time.monotonic() - begin:.1f} s {what} -> {verdict.text[-1500:]}\n"
    with (keep / "all.txt").open("a", errors="replace") as log:
        log.write(line)
    if verdict.what in FAULTS:
        kept = keep / item.kind / str(number)
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(exist_ok=True)
        shutil.move(place, kept)
        (kept / "fault.txt").write_text(line, errors="replace")
    shutil.rmtree(place, ignore_errors=True)
    return verdict.what


def _page(counts: Mapping[str, Counter[str]], command: str) -> str:
    """Page of results."""
    total: Counter[str] = sum(counts.values(), Counter())
    rows = [f"| kind | given | {' | '.join(VERDICTS.values())} |", f"|---{'|---:' * (1 + len(VERDICTS))}|"]
    for name, count in [*counts.items(), ("**all**", total)]:
        rows.append(f"| {name} | {count.total()} | {' | '.join(str(count[what]) for what in VERDICTS)} |")
    used = [f"- {kind}: {'; '.join(item.name for item in INPUTS if item.kind == kind)}" for kind in counts]
    return PAGE.format(
        given=f"{total.total():,}",
        command=command,
        day=date.today().isoformat(),
        table="\n".join(rows),
        inputs="\n".join(used),
    )


if __name__ == "__main__":
    raise SystemExit(main())
