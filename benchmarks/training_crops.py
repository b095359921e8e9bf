"""Processor time and memory of random training crops: our cache, MONAI from NIfTI, MONAI's CacheDataset.

    python benchmarks/training_crops.py [--data FOLDER] [--subjects 4] [--rounds 10]

A crop has four sequences and 80^3 voxels, is mirrored along each axis with probability 1/2, and each sequence is scaled
and shifted at random. Peers do the same: MONAI reads NIfTI, normalises and crops for every sample, or keeps the
normalised volumes in memory. All three take turns in one process with one thread, and processor time counts. Memory is
what a process holds for itself alone (anonymous pages: they can be neither shared nor dropped), measured in a fresh
process for each. Without ``--data``, a folder in the layout `folder`, made-up brains on the grid of BraTS serve.

Limits: at least 50 times less processor time than from NIfTI, at most 1.5 times that of CacheDataset, a tenth
of its memory.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEQUENCES = ("t1", "t1c", "t2", "flair")
SIZE = (80, 80, 80)
#: Crops timed in one turn: many where one is quick.
CROPS = {"ours": 20, "cached": 20, "nifti": 1}
MIB = 2**20


def make_up(folder: Path, subjects: int) -> None:
    """Balls of noise on BraTS's grid."""
    from anymri.data.datasets import get_dataset

    random = np.random.default_rng(0)
    shape = (155, 240, 240)
    grid = np.stack(np.meshgrid(*(np.linspace(-1.2, 1.2, size) for size in shape), indexing="ij"))
    inside = (grid**2).sum(0) < 1
    label = ((grid**2).sum(0) < 0.05).astype(np.uint8)
    for number in range(subjects):
        volumes = {code: np.where(inside, random.integers(200, 1200, shape), 0) for code in SEQUENCES}
        get_dataset("folder").write(folder, f"case{number}", volumes, label)


def ours(cache: Path, subjects: int) -> Callable[[], Any]:
    """A crop of `PatchLoader`."""
    from anymri.data.cache import Cache
    from anymri.data.loading import PatchLoader

    opened = Cache(cache)
    loader = PatchLoader(opened, opened.subject_ids[:subjects], SIZE, 1)
    steps = iter(range(10**9))
    return lambda: loader.batch(0, 0, next(steps))


def monai_transforms() -> tuple[list[Any], list[Any]]:
    """Deterministic and random part of MONAI's pipeline."""
    from monai.transforms import (
        ConcatItemsd,
        EnsureChannelFirstd,
        EnsureTyped,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        RandFlipd,
        RandScaleIntensityd,
        RandShiftIntensityd,
        RandSpatialCropd,
    )

    files = [*SEQUENCES, "label"]
    fixed = [
        LoadImaged(files),
        EnsureChannelFirstd(files),
        Orientationd(files, axcodes="RAS", labels=None),
        ConcatItemsd(list(SEQUENCES), "image"),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        EnsureTyped(["image"], dtype=torch.float32),
    ]
    drawn = [
        RandSpatialCropd(["image", "label"], SIZE, random_size=False),
        *(RandFlipd(["image", "label"], prob=0.5, spatial_axis=axis) for axis in range(3)),
        RandScaleIntensityd("image", factors=0.1, prob=1.0, channel_wise=True),
        RandShiftIntensityd("image", offsets=0.1, prob=1.0, channel_wise=True),
    ]
    return fixed, drawn


def peer(data: Path, subjects: int, cached: bool) -> Callable[[], Any]:
    """A crop of MONAI's."""
    from monai.data import CacheDataset, Dataset
    from monai.transforms import Compose, SelectItemsd

    folders = sorted(path for path in data.iterdir() if path.is_dir())[:subjects]
    items = [{name: _file(folder, name) for name in (*SEQUENCES, "label")} for folder in folders]
    fixed, drawn = monai_transforms()
    chain = Compose([*fixed, SelectItemsd(["image", "label"]), *drawn])
    options: dict[str, Any] = {"cache_rate": 1.0, "progress": False, "num_workers": 1, "copy_cache": False}
    dataset = CacheDataset(items, chain, **options) if cached else Dataset(items, chain)
    turns = iter(range(10**9))
    return lambda: dataset[next(turns) % len(items)]


def _file(folder: Path, name: str) -> Path:
    stem = "seg" if name == "label" else name
    return next(path for ending in (".nii.gz", ".nii") if (path := folder / f"{stem}{ending}").exists())


def own_memory() -> int:
    """Bytes of anonymous pages of this process."""
    return int(re.findall(r"Anonymous:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text(encoding="utf-8"))[0]) * 1024


def pipeline(kind: str, data: Path, cache: Path, subjects: int) -> Callable[[], Any]:
    """One of the three, by name."""
    return ours(cache, subjects) if kind == "ours" else peer(data, subjects, cached=kind == "cached")


def held_by(kind: str, data: Path, cache: Path, subjects: int) -> int:
    """Bytes that a pipeline over all subjects holds, beyond what its libraries take; called in a fresh process."""
    pipeline(kind, data, cache, 1)()  # libraries and working memory
    before = own_memory()
    draw = pipeline(kind, data, cache, subjects)
    for _ in range(2 * subjects):
        draw()
    return own_memory() - before


def measure(data: Path, cache: Path, subjects: int, rounds: int) -> dict[str, Any]:
    """Median processor seconds a crop, taken in turns, and the memory of a process."""
    draws = {kind: pipeline(kind, data, cache, subjects) for kind in CROPS}
    seconds: dict[str, list[float]] = {kind: [] for kind in CROPS}
    for kind, draw in draws.items():
        for _ in range(1 if kind == "nifti" else 2 * subjects):
            draw()
    for _ in range(rounds):
        for kind, draw in draws.items():
            start = time.process_time()
            for _ in range(CROPS[kind]):
                draw()
            seconds[kind].append((time.process_time() - start) / CROPS[kind])
    memory = {}
    for kind in ("ours", "cached"):
        command = [sys.executable, __file__, "--memory-of", kind, "--data", str(data), "--cache", str(cache)]
        answer = subprocess.run(
            [*command, "--subjects", str(subjects)], capture_output=True, encoding="utf-8", check=True
        )
        memory[kind] = int(answer.stdout.splitlines()[-1]) / MIB
    return {"seconds": {kind: statistics.median(values) for kind, values in seconds.items()}, "mib": memory}


def main() -> None:
    """Make the data if need be, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--memory-of", choices=("ours", "cached"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.memory_of:
        print(held_by(asked.memory_of, asked.data, asked.cache, asked.subjects))
        return
    from anymri.data.index import index_dataset
    from anymri.data.preprocess import preprocess

    with tempfile.TemporaryDirectory() as name:
        data, cache = asked.data or Path(name) / "data", asked.cache or Path(name) / "cache"
        if asked.data is None:
            make_up(data, asked.subjects)
        preprocess(index_dataset(data)[: asked.subjects], cache)
        found = measure(data, cache, asked.subjects, asked.rounds)
    times, held = found["seconds"], found["mib"]
    print(json.dumps(found))
    print(f"{'':10}{'processor ms a crop':>22}{'own memory, MiB':>18}")
    for kind in CROPS:
        print(f"{kind:10}{1000 * times[kind]:22.1f}{held.get(kind, float('nan')):18.1f}")
    checks = {
        "from NIfTI / ours >= 50": times["nifti"] / times["ours"],
        "ours / cached <= 1.5": times["ours"] / times["cached"],
        "memory, ours / cached <= 0.1": held["ours"] / held["cached"],
    }
    for text, value in checks.items():
        print(f"{text:32} {value:.3g}")


if __name__ == "__main__":
    main()
