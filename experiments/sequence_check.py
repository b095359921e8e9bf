"""Count what the check of sequences notices: real studies and phantoms under right names, wrong names and exchanged.

    python experiments/sequence_check.py docs/results/sequence-check.md --shared ../shared/data --work work/false_alarms

Phantoms are those of `experiments/false_alarms.py` and are made in the folder `--work` where they are not there yet. No
network is involved: every image is judged on its own grid, raw ones after `--raw` has removed the skull.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any
from unittest import mock

from false_alarms import PHANTOMS

from anymri.benchmark.report.text_tables import markdown_table
from anymri.data.appearance import judge_appearance
from anymri.data.index import find_study
from anymri.data.nifti import Volume, read_image
from anymri.data.raw.study import prepare_raw
from anymri.inference.trust import sequence_check
from anymri.inference.trust.no_image import why_no_image
from anymri.inference.trust.sequence_check import GROUP, NAME, SequenceCheck, brains_of, check_sequences
from anymri.modalities import MODALITIES
from anymri.phantom import generate

GIVEN = ("t1", "t1c", "t2", "flair")
NAMES = ("t1", "t2", "flair")
PAIRS = list(combinations(GIVEN, 2))
#: Stripped and raw folders of real studies: what they are called on the page.
STRIPPED = {"brats2021": "glioma", "openms": "sclerosis", "isles2022": "stroke"}
RAW = {"icbm152": "average head, raw", "openms_raw": "sclerosis, raw"}
#: A pair exchanged: how many of its two files are doubted.
VERDICTS = {2: "both", 1: "one", 0: "none"}
PREFACE = """# Sequences under right and wrong names

Does `anymri predict` notice a file that is not the sequence it was given as, and is it silent when all is right?

`python experiments/sequence_check.py docs/results/sequence-check.md --shared ../shared/data --work
work/false_alarms{raw} --date {date} --machine "{machine}"`, one thread.

Phantoms: seeds 4101 (plain) and 4102 (varied anatomy and scanner), 3 mm, glioma, contrast by the signal equations;
others than those the judge was fitted to, but of the same program. Real studies: every series, each on its own
grid{how}.

**The counts of real studies are optimistic.** The coefficients of the judge come from phantoms alone, but the penalty
(C), the clipping and the limits of the decision were set with these very studies in view. Nothing here was measured on
real studies that nobody had looked at before.

The judge is the packaged one; `experiments/sequence_judge.py` has run from end to end with 60 phantoms only, and that
file was not taken.
"""


@dataclass
class Tally:
    """Counts of one set of studies."""

    studies: int = 0
    looks: Counter[tuple[str, str]] = field(default_factory=Counter)
    alarms: list[str] = field(default_factory=list)
    alone: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def add(self, name: str, volumes: Mapping[str, Volume]) -> None:
        """Check a study under right names, each file alone under wrong ones, and each pair exchanged."""
        self.studies += 1
        right = {code: volumes[code] for code in GIVEN if code in volumes}
        found = check_sequences(right)
        for code in right:
            self.looks[code, str(found.record[code]["looks_like"])] += 1
        self.alarms += [f"{name}: {_short(code)} {text}" for code, text in found.sentences.items()]
        for code, volume in volumes.items():
            for wrong in NAMES:
                if wrong == GROUP.get(code):
                    continue
                single = check_sequences({wrong: volume})
                self.alone[code, wrong, bool(single.sentences)] += 1
                if not single.sentences:
                    self.missed.append(f"{name}: {_short(code)} named {_short(wrong)} ({_chances(single, wrong)})")
        for one, other in PAIRS:
            if {one, other} <= right.keys():
                swapped = check_sequences({**right, one: right[other], other: right[one]})
                verdict = VERDICTS[len({one, other} & swapped.sentences.keys())]
                self.pairs[one, other, verdict] += 1
                if verdict == "none":
                    self.missed.append(f"{name}: {_short(one)} and {_short(other)} exchanged")


def _table(head: list[str], rows: list[list[str]]) -> str:
    return markdown_table(head, rows, left=len(head))


def _short(code: str) -> str:
    return MODALITIES[code].short_name


def _chances(found: SequenceCheck, code: str) -> str:
    """Probabilities of an image, in words."""
    chances = found.record[code]["probability"]
    return ", ".join(f"{NAME[group]} {chance:.2f}" for group, chance in chances.items()) or "not judged"


def phantoms(work: Path, count: int) -> Iterator[tuple[str, str, dict[str, Volume]]]:
    """Set, name and images of each phantom."""
    for kind, (seed, settings) in PHANTOMS.items():
        folder = work / kind.replace(" ", "_")
        if not folder.exists():
            generate(folder, count, seed, settings, layout="folder")
        for study in sorted(folder.glob("phantom-*"))[:count]:
            images = find_study(study).images
            yield f"phantoms, {kind}", study.name, {code: read_image(file) for code, file in images.items()}


def real_studies(root: Path, raw: list[str]) -> Iterator[tuple[str, str, dict[str, Volume]]]:
    """Set, name and images of each real study, without skull."""
    for folder, kind in (STRIPPED | {name: RAW[name] for name in raw}).items():
        for study in sorted(path for path in (root / folder).iterdir() if path.is_dir()):
            images = {
                file.name.split(".")[0]: file for file in sorted(study.glob("*.nii.gz")) if file.stem != "seg.nii"
            }
            volumes = {code: read_image(file) for code, file in images.items()}
            if folder in RAW:
                prepared = prepare_raw(volumes)
                volumes = brains_of(prepared.heads, prepared.images)
            yield kind, study.name, volumes


def count(studies: Iterable[tuple[str, str, dict[str, Volume]]]) -> dict[str, Tally]:
    """Tally of each set of studies."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for kind, name, volumes in studies:
        looks = _once(judge_appearance, volumes.values())
        faults = _once(why_no_image, volumes.values())
        with mock.patch.multiple(sequence_check, judge_appearance=looks, why_no_image=faults):
            tallies[kind].add(name, volumes)
        print(kind, name, flush=True)
    return dict(tallies)


def _once(function: Callable[..., Any], volumes: Iterable[Volume]) -> Callable[..., Any]:
    """A function that looks at each image once: what it shows does not hang on its name."""
    known = {id(volume.array): function(volume.array, volume.geometry.spacing_mm) for volume in volumes}
    return lambda array, _: known[id(array)]


def looks_table(tallies: Mapping[str, Tally]) -> str:
    """Given name against the most probable sequence, right names."""
    seen = [*NAMES, "None"]
    rows = []
    for kind, tally in tallies.items():
        for code in GIVEN:
            counts = [tally.looks[code, look] for look in seen]
            if sum(counts):
                rows.append([kind, _short(code), str(sum(counts)), *map(str, counts)])
    return _table(["studies", "given as", "files", *(NAME[look] for look in NAMES), "not judged"], rows)


def alarms_table(tallies: Mapping[str, Tally]) -> str:
    """Warnings under right names."""
    rows = [
        [kind, str(tally.studies), str(sum(tally.looks.values())), str(len(tally.alarms)), "<br>".join(tally.alarms)]
        for kind, tally in tallies.items()
        if tally.looks
    ]
    return _table(["studies", "n", "files", "warnings", "which"], rows)


def alone_table(tallies: Mapping[str, Tally], codes: Iterable[str]) -> str:
    """Files noticed of files given, alone under a wrong name."""
    rows = []
    for code in codes:
        for wrong in NAMES:
            counts = [[tally.alone[code, wrong, found] for found in (True, False)] for tally in tallies.values()]
            if any(map(sum, counts)):
                cells = [f"{noticed} of {noticed + missed}" if noticed + missed else "" for noticed, missed in counts]
                rows.append([_short(code), _short(wrong), *cells])
    return _table(["image", "named", *tallies], rows)


def pairs_table(tallies: Mapping[str, Tally], pairs: Iterable[tuple[str, str]]) -> str:
    """Pairs exchanged in a study: both files doubted, one, none."""
    rows = []
    for pair in pairs:
        counts = [[tally.pairs[*pair, verdict] for verdict in VERDICTS.values()] for tally in tallies.values()]
        cells = [" / ".join(map(str, numbers)) if sum(numbers) else "" for numbers in counts]
        rows.append([" and ".join(map(_short, pair)), *cells])
    return _table(["exchanged", *tallies], rows)


def write_page(tallies: Mapping[str, Tally], preface: str) -> str:
    """The whole page."""
    missed = [f"- {kind}, {text}" for kind, tally in tallies.items() for text in tally.missed]
    parts = [
        preface,
        "## Right names: most probable sequence\n\nT1c counts as T1 here: tissue cannot tell.",
        looks_table(tallies),
        "## Right names: warnings, each of them false",
        alarms_table(tallies),
        "## One file given alone under a wrong name\n\nNoticed of given.",
        alone_table(tallies, GIVEN),
        "## Two files of a study exchanged\n\nHow often both files were doubted / only one / none.",
        pairs_table(tallies, [pair for pair in PAIRS if pair != ("t1", "t1c")]),
        "T1 with T1c apart: only enhancement tells them, and an exchange passes where it stays below the limit.",
        pairs_table(tallies, [("t1", "t1c")]),
        "## Other kinds of image given alone as T1, T2 or FLAIR\n\nNoticed of given.",
        alone_table(tallies, ("pd", "dwi", "adc")),
        "## Not noticed, by name\n\nIn brackets the probabilities of the image.",
        "\n".join(missed) or "Nothing.",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> None:
    """Check all studies and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="page to write")
    parser.add_argument("--shared", type=Path, required=True, help="folder of the real data")
    parser.add_argument("--work", type=Path, required=True, help="folder for the phantoms")
    parser.add_argument("--phantoms", type=int, default=50, help="of each kind")
    parser.add_argument("--raw", nargs="*", choices=list(RAW), default=[], help="raw studies, which take minutes")
    parser.add_argument("--date", required=True, help="for the page")
    parser.add_argument("--machine", required=True, help="for the page")
    arguments = parser.parse_args()
    tallies = count(chain(real_studies(arguments.shared, arguments.raw), phantoms(arguments.work, arguments.phantoms)))
    raw, how = "", "; raw ones (openms_raw, and icbm152 with its PD) are left out"
    if arguments.raw:
        raw, how = f" --raw {' '.join(arguments.raw)}", "; raw ones without skull, as `--raw` removes it"
    preface = PREFACE.format(date=arguments.date, machine=arguments.machine, raw=raw, how=how)
    arguments.out.write_text(write_page(tallies, preface), encoding="utf-8")


if __name__ == "__main__":
    main()
