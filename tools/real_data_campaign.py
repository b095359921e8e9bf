"""Real-data campaign: one command on every real data set at hand; its exit code, outcome and warnings as a table.

    nice .venv/bin/python tools/real_data_campaign.py ../shared/data --out work/real --page work/real.md

Each row is a command as a person types it, run in a process that has imported everything once. Studies: raw ones with
and without a T2, DICOM, the series of many scanners, a stroke, average heads, aligned brains with multiple sclerosis,
and gliomas of which each shows another one of the 15 subsets. `--only` takes parts of a group's name. What the page
cannot say - whether the sentences are right - is for the reader.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from anymri.benchmark.report.text_tables import markdown_table
from anymri.cli import main as anymri
from anymri.cli.app import SIGNALLED
from anymri.types import GLIOMA


class Command(NamedTuple):
    """What to run: the group it is listed in, what the input truly is, and the arguments of `anymri predict`."""

    group: str
    truth: str
    arguments: list[str]


class Outcome(NamedTuple):
    """What came of it."""

    command: Command
    code: int
    line: str
    told: list[str]


#: What the vendors' series are, by their scanners' own headers (times in ms) and by how they were made.
VENDORS = {
    "bad_slicecount": "FLAIR (TR 6000, TE 394, TI 2200), 2 slices of noise, one lost between them",
    "bad_sliceincrement": "CT, 4 slices",
    "bad_sliceorientation": "T2 (TE 90 and 120), 4 slices of noise in two directions",
    "compressed_generic": "FLAIR (TR 6000, TE 394, TI 2200), 4 slices of noise, compressed",
    "compressed_j2k": "the same in JPEG 2000",
    "compressed_jpeg": "the same in JPEG",
    "compressed_jpegls": "the same in JPEG-LS",
    "compressed_rle": "the same in run lengths",
    "ge_mr750_t1": "T1 (inversion-prepared gradient echo, TR 8.9, TE 3.2, TI 900), 4 slices of noise",
    "ge_pioneer_t1_mprage": "T1 (MP-RAGE) of an orange, 12 of its slices",
    "hitachi_echelon": "PD (TR 4000, TE 12), 4 slices",
    "hyperfine_flair_multiframe": "FLAIR at 0.064 T, one file of many frames of noise",
    "philips_achieva_enhanced": "one enhanced file of many frames of noise",
    "philips_intera_flair3d": "FLAIR (TR 4800, TE 387, TI 1650), 4 slices of noise",
    "siemens_multiframe": "one file of many frames of noise",
    "siemens_trio_flair3d": "FLAIR (TR 6000, TE 394, TI 2200), 4 slices of noise",
}
RAW = {
    "patient01_study1": "MS: T1, T2 and FLAIR",
    "patient12_study1": "MS: T1, T2 and FLAIR",
    "patient19_study2": "MS: T1 and FLAIR, no T2",
    "patient20_study2": "MS: T1 and FLAIR, no T2",
}


def commands(data: Path) -> Iterator[Command]:
    """Every command of the campaign."""
    for name, truth in VENDORS.items():
        yield Command("scanners", truth, [str(data / "dicom" / "vendors" / name)])
    yield Command(
        "one DICOM study", "MS: T1, T2 and FLAIR, 16 slices each", [str(data / "dicom" / "openms_patient12_study1")]
    )
    for name, truth in RAW.items():
        yield Command("raw", truth, [str(data / "openms_raw" / name), "--raw"])
    stroke = data / "isles2022" / "sub-strokecase0009"
    yield Command("stroke", "DWI, ADC and FLAIR of a stroke, brains", [str(stroke)])
    for code, name in (("dwi", "t2"), ("adc", "t2"), ("dwi", "flair"), ("adc", "flair"), ("dwi", "t1"), ("adc", "t1")):
        truth = f"{code.upper()} of a stroke given as {name.upper()}"
        yield Command("stroke, wrong name", truth, [f"--{name}", str(stroke / f"{code}.nii.gz")])
    average = data / "icbm152" / "avg152"
    yield Command("average heads", "T1, T2 and PD, averages of 152 heads", [str(average), "--raw"])
    yield Command("average heads", "PD given as T2", ["--t2", str(average / "pd.nii.gz"), "--raw"])
    for case in sorted((data / "openms").iterdir()):
        yield Command("aligned, MS", "T1, T1c, T2 and FLAIR of multiple sclerosis", [str(case)])
    cases = sorted((data / "brats2021").iterdir())
    for number, subset in enumerate(GLIOMA.subsets()):
        case = cases[number % len(cases)]
        files = [part for code in subset for part in (f"--{code}", str(case / f"{code}.nii.gz"))]
        yield Command("glioma, one subset each", GLIOMA.subset_name(subset), files)


def run(command: Command, folder: Path) -> Outcome:
    """Run one command as the command line does."""
    arguments = ["anymri", "predict", *command.arguments, "-o", str(folder), "--overwrite"]
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with mock.patch.object(sys, "argv", arguments), redirect_stdout(out), redirect_stderr(err):
        try:
            anymri()
        except SystemExit as end:
            code = end.code or 0
        except Exception as error:  # what a user would see as a traceback
            code = f"{type(error).__name__}: {error}"
    gc.collect()
    told = err.getvalue().splitlines()
    if code != 0:
        refusal = next((line for line in reversed(told) if line.startswith("anymri: ")), str(code))
        return Outcome(command, code if isinstance(code, int) else 1, refusal, [x for x in told if x != refusal])
    facts = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    volumes = ", ".join(
        f"{name} {'unknown' if value is None else f'{value:.1f} ml'}" for name, value in facts["volumes_ml"].items()
    )
    return Outcome(command, 0, f"{' '.join(facts['available'])}: {volumes}", told)


def page(outcomes: list[Outcome], data: Path) -> str:
    """Tables of all outcomes, one for each group."""
    parts = []
    for group in dict.fromkeys(outcome.command.group for outcome in outcomes):
        rows = []
        for command, code, line, told in (outcome for outcome in outcomes if outcome.command.group == group):
            typed = shlex.join(command.arguments)
            cells = [f"`anymri predict {typed}`", command.truth, str(code), line, "<br>".join(told)]
            rows.append([_short(cell, data) for cell in cells])
        head = ["command", "what it is", "exit code", "outcome", "told on standard error"]
        parts += [f"## {group[0].upper()}{group[1:]}", markdown_table(head, rows, left=len(head))]
    return "\n\n".join(parts) + "\n"


def _short(text: str, data: Path) -> str:
    return text.replace(f"{data}{os.sep}", "").replace("|", "/")


def main() -> int:
    """Run the chosen groups and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the real data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--page", type=Path, required=True, help="page to write")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of groups")
    arguments = parser.parse_args()
    chosen = [one for one in commands(arguments.data) if any(part in one.group for part in arguments.only)]
    outcomes = []
    for number, command in enumerate(chosen):
        name = "-".join([*command.group.replace(",", "").split(), f"{number:02d}"])
        outcomes.append(run(command, arguments.out / name))
        if outcomes[-1].code > SIGNALLED:
            return outcomes[-1].code  # the command took a signal that was meant for the campaign
        print(f"{outcomes[-1].code}  {command.truth}: {outcomes[-1].line}", flush=True)
        arguments.page.write_text(page(outcomes, arguments.data), encoding="utf-8")
    broken = [outcome for outcome in outcomes if outcome.code not in (0, 2)]
    print(f"{len(outcomes)} commands, {len(broken)} of them ended in a way that no command may")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
