"""Processor time and memory of one phantom subject, beside a floor, and where the time goes.

    python benchmarks/phantom_speed.py [--spacing 2 1] [--subjects 3] [--profile 12]

A subject is a glioma with four sequences, made and written as the layout ``brats2023``, after a first one has loaded
libraries and template; each voxel size in a fresh process. The floor is what cannot be left out, taken in turns with
the subjects: two normal numbers a voxel and sequence for the noise, one tissue map interpolated at every voxel, the
files compressed.

Limits: 1 s at 2 mm, 12 s and 2 GiB at 1 mm.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from anymri.data.datasets import get_dataset
from anymri.phantom import PhantomSettings, PhantomSubject, generate, make_subject
from anymri.phantom.anatomy import load_template

LIMITS = {2.0: (1.0, None), 1.0: (12.0, 2.0)}


def write_floor(folder: Path, name: str, subject: PhantomSubject) -> None:
    """Noise for the brain's box, one map interpolated, the finished subject written."""
    brain = subject.images["t1"] > 0
    box = tuple(slice(int(edge.min()), int(edge.max()) + 1) for edge in np.nonzero(brain))
    shape = brain[box].shape
    generator = np.random.default_rng(0)
    for _ in subject.images:
        generator.standard_normal((2, *shape))
    template = load_template(max(1, int(subject.spacing_mm)))
    places = np.stack(np.meshgrid(*(np.linspace(0, size - 1, count) for size, count in zip(
        template.grey.values.shape, shape, strict=True)), indexing="ij"))  # fmt: skip
    ndimage.map_coordinates(template.grey.values, places, order=1, prefilter=False)
    get_dataset("brats2023").write(folder, name, subject.images, subject.label, (subject.spacing_mm,) * 3)


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall-clock seconds."""
    start = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def measure(spacing_mm: float, subjects: int, lines: int) -> None:
    """Print the figures of one voxel size; called in a fresh process."""
    seed, ours, floor = 40, [], []
    settings = PhantomSettings(spacing_mm=spacing_mm)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, _ = timed(lambda: generate(folder / "first", 1, seed, settings, start=100, progress=False))
        memory = []
        for index in range(subjects):

            def one(index: int = index) -> None:
                generate(folder / "ours", 1, seed, settings, start=index, progress=False)

            ours.append(timed(one))
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
            subject = make_subject(seed, index, settings)
            floor.append(timed(lambda subject=subject: write_floor(folder / "floor", subject.subject_id, subject)))  # type: ignore[misc]
            del subject
        if lines:
            profile = cProfile.Profile()
            profile.runcall(generate, folder / "profiled", 1, seed, settings, progress=False)
    cpu, wall = (statistics.median(column) for column in zip(*ours, strict=True))
    least = statistics.median(seconds for seconds, _ in floor)
    limit_s, limit_gib = LIMITS.get(spacing_mm, (None, None))
    print(f"{spacing_mm:g} mm, {subjects} subjects, median (largest):")
    print(f"  processor time {cpu:.2f} s ({max(a for a, _ in ours):.2f}), limit {limit_s} s; wall clock {wall:.2f} s")
    print(f"  floor {least:.2f} s, ratio {cpu / least:.1f}; first subject of a process {first:.2f} s")
    print(f"  peak memory {memory[0]:.2f} GiB after one subject, {memory[-1]:.2f} in all, limit {limit_gib} GiB")
    if lines:
        table = pstats.Stats(profile).sort_stats("tottime")
        table.print_stats(lines)


def main() -> None:
    """Measure each voxel size in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--spacing", type=float, nargs="+", default=[2.0, 1.0])
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--profile", type=int, default=12, help="Lines of the profile; 0 for none.")
    parser.add_argument("--here", action="store_true", help="Measure in this process.")
    asked = parser.parse_args()
    for spacing_mm in asked.spacing:
        if asked.here:
            measure(spacing_mm, asked.subjects, asked.profile)
            continue
        command = [sys.executable, __file__, "--here", "--spacing", str(spacing_mm), "--subjects", str(asked.subjects)]
        subprocess.run([*command, "--profile", str(asked.profile)], check=True)


if __name__ == "__main__":
    main()
