"""Campaign on batches: kills, processes, Ray and shards must leave the same files, and memory must not grow.

    .venv/bin/python tools/batch_campaign.py FOLDER --studies 40 --seed 0

makes phantoms with random sequences missing, breaks three of them (cut off, another shape, text), predicts all in one
go, and again killed twice by SIGKILL at random times, with two processes, with Ray tasks, in two shards, and three one
by one. It prints a line for each comparison, over the checksums of all files, and ends with code 1 if one differs.
What is in FOLDER already is used.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

COMMAND = [sys.executable, "-m", "anymri.cli"]
MISSING = ("t1=0.4", "t1c=0.4", "t2=0.4", "flair=0.4")
#: Numbers of finished studies at which the resident memory is looked at.
LOOKS = (5, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--spacing", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", nargs="*", default=[], help="Of kills, workers, ray, shards, singles.")
    options = parser.parse_args()
    draws, root = random.Random(options.seed), options.folder / "studies"
    if not root.is_dir():
        make_studies(root, options.studies, options.spacing, options.seed)
    unbroken, memory = run_watched(root, options.folder / "unbroken")
    told = ", ".join(f"{megabytes} MiB after {done}" for done, megabytes in memory.items())
    print(f"largest worker's peak resident memory: {told} studies", flush=True)
    tasks: dict[str, Callable[[], Sequence[Path | tuple[Path, Path]]]] = {
        "kills": lambda: [run_killed(root, options.folder / "kills", draws, options.studies)],
        "workers": lambda: [run_plain(root, options.folder / "workers", "--workers", "2")],
        "ray": lambda: [run_plain(root, options.folder / "ray", "--ray", "--workers", "2")],
        "shards": lambda: [run_shards(root, options.folder / "shards")],
        "singles": lambda: run_singles(root, options.folder),
    }
    same = True
    for name, task in tasks.items():
        if name in options.without:
            continue
        for one in task():
            found, wanted = (one, unbroken) if isinstance(one, Path) else one
            first, second = digests(found), digests(wanted)
            differ = [file for file in sorted({*first, *second}) if first.get(file) != second.get(file)]
            print(f"{name}: {found.name}: {len(second)} files, {len(differ)} differ {differ[:4]}", flush=True)
            same &= not differ
    sys.exit(0 if same else 1)


def make_studies(root: Path, count: int, spacing_mm: float, seed: int) -> None:
    """Phantoms, every one with at least one sequence, the first three of which are broken."""
    missing = [part for rate in MISSING for part in ("--missing", rate)]
    how = ["--layout", "folder", "-n", str(count), "--spacing", str(spacing_mm), "--seed", str(seed), "-q"]
    subprocess.run([*COMMAND, "phantom", root, *how, *missing], check=True)
    first, second, third = sorted(path for path in root.iterdir() if path.name.startswith("phantom"))[:3]
    image = images(first)[0]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    image = images(second)[0]
    loaded: Any = nib.load(image)
    nib.Nifti1Image(np.asarray(loaded.dataobj)[2:], loaded.affine).to_filename(image)
    if len(images(second)) == 1:
        nib.save(loaded, second / ("t1.nii.gz" if image.name != "t1.nii.gz" else "t2.nii.gz"))
    images(third)[0].write_bytes(gzip.compress(b"no image"))


def images(study: Path) -> list[Path]:
    return sorted(path for path in study.glob("*.nii.gz") if path.name != "seg.nii.gz")


def arguments(root: Path, out: Path, *options: str) -> list[str]:
    return [*COMMAND, "predict", "--batch", str(root), "-o", str(out), "-q", *options]


def run_plain(root: Path, out: Path, *options: str) -> Path:
    begin = time.monotonic()
    code = subprocess.run(arguments(root, out, *options), stderr=subprocess.DEVNULL, check=False).returncode
    print(f"{out.name}: exit code {code}, {time.monotonic() - begin:.0f} s", flush=True)
    return out


def run_watched(root: Path, out: Path) -> tuple[Path, dict[int, int]]:
    """A batch in one go, and the peak resident memory in MiB of its largest process by number of studies."""
    memory: dict[int, int] = {}
    last = 0, 0
    process = subprocess.Popen(arguments(root, out), stderr=subprocess.DEVNULL)
    while process.poll() is None:
        done, peak = finished(out), peak_mib(process.pid)
        for look in LOOKS:
            if done >= look and peak and look not in memory:
                memory[look] = peak
        last = done, max(last[1], peak)
        time.sleep(1)
    print(f"{out.name}: exit code {process.returncode}", flush=True)
    return out, memory | {last[0]: last[1]}


def run_killed(root: Path, out: Path, draws: random.Random, studies: int) -> Path:
    """A batch that is killed twice, the first time alone and then with all its processes, and run again at once."""
    for number, least in enumerate((1, studies // 2)):
        until = draws.randint(least, least + studies // 2 - 2)
        delay_s = draws.uniform(0, 2)
        process = subprocess.Popen(arguments(root, out), stderr=subprocess.DEVNULL, start_new_session=True)
        while finished(out) < until and process.poll() is None:
            time.sleep(0.05)
        time.sleep(delay_s)
        if number:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        print(f"killed with {finished(out)} of {studies} finished, exit code {process.wait()}", flush=True)
    return run_plain(root, out)


def run_shards(root: Path, out: Path) -> Path:
    for shard in ("1/2", "2/2"):
        run_plain(root, out, "--shard", shard)
    return out


def run_singles(root: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Three studies one by one, beside their folders of the batch."""
    pairs = []
    for study in sorted(path for path in root.iterdir() if path.name.startswith("phantom"))[3:6]:
        out = folder / "singles" / study.name
        subprocess.run([*COMMAND, "predict", study, "-o", out, "-q", "--overwrite"], check=True, capture_output=True)
        pairs.append((out, folder / "unbroken" / "studies" / study.name))
    return pairs


def finished(out: Path) -> int:
    return len(list((out / "records").glob("[!.]*.json")))


def digests(folder: Path) -> dict[str, str]:
    """Checksum of every file, hidden ones too."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def peak_mib(parent: int) -> int:
    """Largest peak of resident memory among a process's descendants."""
    children: dict[int, list[int]] = {}
    peaks = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        children.setdefault(int(lines["PPid"]), []).append(int(status.parent.name))
        peaks[int(status.parent.name)] = int(lines.get("VmHWM", "0 kB").split()[0]) // 1024
    found, todo = [0], children.get(parent, [])[:]
    while todo:
        child = todo.pop()
        found.append(peaks.get(child, 0))
        todo += children.get(child, [])
    return max(found)


if __name__ == "__main__":
    main()
