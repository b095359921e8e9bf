"""Every artifact by its name, with a strength from 0 to 1: the one table from a strength to physical quantities.

At strength 1 an image is close to useless; what that means for each artifact is written beside it. What is drawn
(direction, position, poses) does not depend on the strength, so that more strength is more of the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anymri.errors import UserError
from anymri.phantom.artifacts.acquisition import rician_noise
from anymri.phantom.artifacts.coverage import drop_slices, move_rigidly, thick_slices
from anymri.phantom.artifacts.field import dephase, displace, opposed_phase, shift, sphere_field_ppm
from anymri.phantom.artifacts.kspace import clip_samples, fold_over, ghost, join_poses, stripes, truncate, zipper
from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import Grid

__all__ = ["ARTIFACTS", "Scan", "artifact_stream", "check_strengths", "impose_artifacts", "strengths_for"]


@dataclass(frozen=True)
class Scan:
    """One sequence on its way through the artifacts.

    Parameters
    ----------
    image : ndarray of float64, shape (D, H, W)
        Magnitude.
    seen : ndarray of bool, shape (D, H, W)
        Voxels that belong to the picture: the brain after skull-stripping, or all.
    fat : ndarray of float64, shape (D, H, W), or None
        Share of the signal that comes from fat, 0 to 1; None where the body has none.
    grid : Grid
    slice_axis : int
        Array axis of the slice direction.
    air_mm : dict of str to tuple
        Air-filled cavities: centre (D, H, W) in mm from the start of the imaged volume, and radius.
    """

    image: np.ndarray
    seen: np.ndarray
    grid: Grid
    slice_axis: int = 0
    fat: np.ndarray | None = None
    air_mm: Mapping[str, tuple[np.ndarray, float]] | None = None

    @property
    def level(self) -> float:
        """Mean signal of what is seen."""
        return float(self.image[self.seen].mean()) if self.seen.any() else 1.0

    def draw_axes(self, generator: np.random.Generator) -> tuple[int, int]:
        """Phase-encoding and readout direction: the two axes within the slice in random order."""
        inside = [axis for axis in range(3) if axis != self.slice_axis]
        phase = inside[int(generator.integers(2))]
        return phase, next(axis for axis in inside if axis != phase)

    def extent(self, axis: int) -> tuple[int, int]:
        """First voxel along an axis in which something is seen, and the end."""
        places = np.nonzero(self.seen.any(axis=tuple(other for other in range(3) if other != axis)))[0]
        return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, self.seen.shape[axis])


#: An artifact: scan, strength (above 0) and its own random stream to the changed scan and what is worth recording.
Artifact = Callable[[Scan, float, np.random.Generator], tuple[Scan, dict]]


def _move(scan: Scan, angles: np.ndarray, shift_mm: np.ndarray) -> Scan:
    """The scan in another pose."""
    spacing_mm = scan.grid.spacing_mm
    return replace(
        scan,
        image=move_rigidly(scan.image, angles, shift_mm, spacing_mm),
        seen=move_rigidly(scan.seen.astype(float), angles, shift_mm, spacing_mm) > 0.5,
        fat=None if scan.fat is None else move_rigidly(scan.fat, angles, shift_mm, spacing_mm),
    )


def _misregistration(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Rigid displacement against the other sequences; 1: 8 degrees and 12 mm."""
    axis, direction = generator.normal(size=(2, 3))
    angles = 8.0 * strength * axis / np.linalg.norm(axis)
    shift_mm = 12.0 * strength * direction / np.linalg.norm(direction)
    return _move(scan, angles, shift_mm), {"angles_degrees": angles.tolist(), "shift_mm": shift_mm.tolist()}


def _thick_slices(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Thick slices; 1: 8 mm more than a voxel."""
    slice_mm = scan.grid.spacing_mm + 8.0 * strength
    # mean over what is seen of a slice: what was cut away around the brain was no darkness to the scanner
    total, weight = (
        thick_slices(array, scan.slice_axis, slice_mm, scan.grid.spacing_mm)
        for array in (scan.image * scan.seen, scan.seen.astype(float))
    )
    image = np.where(scan.seen, np.maximum(total, 0) / np.maximum(weight, 1e-3), scan.image)
    return replace(scan, image=image), {"slice_mm": slice_mm, "axis": scan.slice_axis}


def _susceptibility(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Drop-out and distortion near air; 1: TE 30 ms at 3 T and 3 mm of shift a ppm (an echo-planar image)."""
    axes = scan.grid.axes_mm()
    field_ppm = np.zeros(scan.image.shape)
    for centre_mm, radius_mm in (scan.air_mm or {}).values():
        field_ppm += sphere_field_ppm(axes, centre_mm, radius_mm)
    phase, _ = scan.draw_axes(generator)
    te_s, mm_per_ppm = 0.03 * strength, 3.0 * strength * (-1) ** int(generator.integers(2))
    voxels = field_ppm * mm_per_ppm / scan.grid.spacing_mm
    image = displace(dephase(scan.image, field_ppm * 127.7, te_s), voxels, phase)
    seen = displace(scan.seen.astype(float), voxels, phase) > 0.5
    details = {"te_s": te_s, "mm_per_ppm": mm_per_ppm, "axis": phase, "cavities": sorted(scan.air_mm or {})}
    return replace(scan, image=image, seen=seen), details


def _fat_of(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Signal of water and of fat."""
    fat = scan.image * (scan.fat if scan.fat is not None else 0.0)
    return scan.image - fat, fat


def _chemical_shift(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Fat appears beside its place along the readout; 1: by 8 mm."""
    _, readout = scan.draw_axes(generator)
    shift_mm = 8.0 * strength * (-1) ** int(generator.integers(2))
    water, fat = _fat_of(scan)
    image = water + shift(fat, shift_mm / scan.grid.spacing_mm, readout)
    return replace(scan, image=image), {"shift_mm": shift_mm, "axis": readout}


def _phase_cancellation(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Water and fat point apart; 1: opposite, voxels with half of each are black."""
    angle = float(np.pi * strength)
    return replace(scan, image=opposed_phase(*_fat_of(scan), angle)), {"angle_degrees": 180.0 * strength}


def _motion(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Four further poses, held while outer parts of k-space are measured; 1: about 10 degrees and 10 mm each."""
    phase, _ = scan.draw_axes(generator)
    angles, shifts = generator.normal(0, 1, (2, 4, 3)) * 10.0 * strength / np.sqrt(3)
    size = scan.image.shape[phase]
    # the head is still while the middle sixth of the lines is measured: the picture stays in place
    line = np.arange(size) - size // 2
    still, last = size // 12, size // 2
    turn = still + (last - still) * float(generator.uniform(0.2, 0.6))
    pose = np.where(np.abs(line) <= still, 0, 1 + (line > 0) + 2 * (np.abs(line) > turn))
    images = [scan.image] + [_move(scan, *each).image for each in zip(angles, shifts, strict=True)]
    details = {"angles_degrees": angles.tolist(), "shifts_mm": shifts.tolist(), "axis": phase}
    return replace(scan, image=join_poses(images, pose, phase)), details


def _ghosting(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Repeated images; 1: every ghost has 0.45 of the signal."""
    phase, _ = scan.draw_axes(generator)
    period, amplitude = int(generator.integers(2, 6)), 0.9 * strength
    if period == 2:
        amplitude /= 2  # both ghosts fall on the same place
    return replace(scan, image=ghost(scan.image, phase, period, amplitude)), {
        "axis": phase, "period_lines": period, "amplitude": amplitude,
    }  # fmt: skip


def _spike(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """A wave over some slices; 1: over every slice, as strong as the mean signal."""
    shape = scan.image.shape
    frequency = [0, 0, 0]
    for axis in (axis for axis in range(3) if axis != scan.slice_axis):
        frequency[axis] = int(generator.integers(shape[axis] // 16 + 1, shape[axis] // 4 + 2)) * int(
            generator.choice([-1, 1])
        )
    hit = np.less(generator.uniform(size=(shape[scan.slice_axis],)), 0.3 + 0.7 * strength)
    amplitude, phase = strength * scan.level, float(generator.uniform(0, 2 * np.pi))
    where = (frequency[0], frequency[1], frequency[2])
    image = stripes(scan.image, where, amplitude, phase, hit, scan.slice_axis)
    first = scan.grid.start[scan.slice_axis]
    details = {"frequency": frequency, "amplitude": amplitude, "slices": (np.nonzero(hit)[0] + first).tolist()}
    return replace(scan, image=image), details


def _zipper(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """A dotted line across the picture; 1: three times the mean signal."""
    _, readout = scan.draw_axes(generator)
    start, stop = scan.extent(readout)
    column = int(start + (stop - start) * generator.uniform(0.15, 0.85))
    image = zipper(generator, scan.image, column, readout, 3.0 * strength * scan.level)
    return replace(scan, image=image), {"axis": readout, "column": column + scan.grid.start[readout]}


def _gibbs(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Ringing beside edges; 1: the middle fifth of k-space was measured."""
    first, second = (axis for axis in range(3) if axis != scan.slice_axis)
    kept = 1 - 0.8 * strength
    return replace(scan, image=truncate(scan.image, (first, second), kept)), {"kept": kept}


def _rf_overflow(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Receiver overflow; 1: samples above 1 % of the largest are cut off."""
    first, second = (axis for axis in range(3) if axis != scan.slice_axis)
    limit = 10.0 ** (-2.0 * strength)
    image, clipped = clip_samples(scan.image, (first, second), limit)
    return replace(scan, image=image), {"limit": limit, "clipped_energy": clipped}


def _aliasing(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """The field of view is smaller than the head; 1: by four tenths."""
    phase, _ = scan.draw_axes(generator)
    start, stop = scan.extent(phase)
    size = max(2, round((stop - start) * (1 - 0.4 * strength)))
    first = start + round((stop - start - size) * float(generator.uniform(0.3, 0.7)))
    inside = np.zeros(scan.image.shape, bool)
    np.moveaxis(inside, phase, 0)[first : first + size] = True
    seen = fold_over(scan.seen.astype(float), phase, first, first + size) > 0
    image = fold_over(scan.image, phase, first, first + size)
    details = {"axis": phase, "start": first + scan.grid.start[phase], "size": size}
    return replace(scan, image=image, seen=seen & inside), details


def _bias_field(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Uneven sensitivity; 1: its logarithm has a standard deviation of 0.5."""
    image = scan.image * np.exp(0.5 * strength * smooth_noise(generator, scan.grid, 80.0))
    return replace(scan, image=image), {"log_std": 0.5 * strength}


def _low_snr(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Rician noise; 1: as strong as 0.4 of the mean signal in each channel."""
    sigma = 0.4 * strength * scan.level
    return replace(scan, image=rician_noise(generator, scan.image, sigma)), {"sigma": sigma}


def _missing_slices(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """Slices without signal, one at least; 1: four in ten."""
    start, stop = scan.extent(scan.slice_axis)
    order = generator.permutation(stop - start) + start
    lost = np.sort(order[: max(1, round(0.4 * strength * len(order)))])
    return _without(scan, lost)


def _partial_coverage(scan: Scan, strength: float, generator: np.random.Generator) -> tuple[Scan, dict]:
    """The stack ends too early at the bottom or the top, by one slice at least; 1: half of the head is missing."""
    start, stop = scan.extent(scan.slice_axis)
    count = max(1, round(0.5 * strength * (stop - start)))
    lost = np.arange(start, start + count) if generator.uniform() < 0.5 else np.arange(stop - count, stop)
    return _without(scan, lost)


def _without(scan: Scan, lost: np.ndarray) -> tuple[Scan, dict]:
    """The scan without some slices, which are recorded by their number in the whole volume."""
    axis = scan.slice_axis
    changed = replace(scan, image=drop_slices(scan.image, lost, axis), seen=drop_slices(scan.seen, lost, axis))
    return changed, {"axis": axis, "slices": (lost + scan.grid.start[axis]).tolist()}


#: Every artifact by its name, in the order in which they act: the body, the field, the receiver, what is kept.
ARTIFACTS: dict[str, Artifact] = {
    "misregistration": _misregistration,
    "bias_field": _bias_field,
    "susceptibility": _susceptibility,
    "chemical_shift": _chemical_shift,
    "phase_cancellation": _phase_cancellation,
    "motion": _motion,
    "ghosting": _ghosting,
    "aliasing": _aliasing,
    "gibbs": _gibbs,
    "spike": _spike,
    "zipper": _zipper,
    "low_snr": _low_snr,
    "rf_overflow": _rf_overflow,
    "thick_slices": _thick_slices,
    "missing_slices": _missing_slices,
    "partial_coverage": _partial_coverage,
}


#: Artifacts that show only where there is fat in what is seen.
NEED_FAT = ("phase_cancellation",)


def artifact_stream(seed: int, index: int, sequence: str, artifact: str) -> np.random.Generator:
    """The random stream of one artifact of one sequence of one subject; no other draw depends on it."""
    name = f"{sequence}:{artifact}".encode()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 2, *name])))


def check_strengths(strengths: Mapping[str, float], sequences: Sequence[str] = ()) -> dict[str, float]:
    """Check the names and strengths of artifacts, each for all sequences (``motion``) or for one (``flair:motion``).

    Raises
    ------
    UserError
        If a name is unknown or a strength is not a number from 0 to 1.
    """
    for key, strength in strengths.items():
        sequence, colon, name = key.rpartition(":")
        if name not in ARTIFACTS:
            raise UserError(f"phantom: unknown artifact {name!r}; choose from {', '.join(ARTIFACTS)}")
        if colon and sequence not in sequences:
            raise UserError(f"phantom: artifact {key!r} names an unknown sequence; choose from {', '.join(sequences)}")
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= 1:
            raise UserError(f"phantom: the strength of {name} is {strength!r}; choose a number from 0 to 1")
    return dict(strengths)


def strengths_for(
    sequence: str, strengths: Mapping[str, float], rate: float, generator: np.random.Generator
) -> dict[str, float]:
    """Strength of every artifact of one image of a brain.

    Parameters
    ----------
    sequence : str
    strengths : dict of str to float
        As `check_strengths` takes them; what is said for one sequence beats what is said for all.
    rate : float
        Probability of one further artifact with a random strength from 0.2 to 1.
    generator : numpy.random.Generator
    """
    chosen = {name: strengths[name] for name in ARTIFACTS if name in strengths}
    chosen |= {name: strengths[f"{sequence}:{name}"] for name in ARTIFACTS if f"{sequence}:{name}" in strengths}
    draw, strength = generator.uniform(size=2)
    names = [name for name in ARTIFACTS if name not in NEED_FAT]
    extra = names[int(generator.integers(len(names)))]
    if draw < rate and extra not in chosen:
        chosen[extra] = float(0.2 + 0.8 * strength)
    return chosen


def impose_artifacts(
    scan: Scan, strengths: Mapping[str, float], stream: Callable[[str], np.random.Generator]
) -> tuple[Scan, dict[str, dict]]:
    """Spoil a scan; what has strength 0 changes nothing, to the last bit.

    Parameters
    ----------
    scan : Scan
    strengths : dict of str to float
        0 to 1, by the names of `ARTIFACTS`.
    stream : callable
        Artifact name to its random stream, see `artifact_stream`.

    Returns
    -------
    scan : Scan
    record : dict of str to dict
        The truth: for every artifact with a strength above 0 its strength and what was drawn.

    Raises
    ------
    UserError
        If a name or strength is impossible, or an artifact of fat is asked for where there is none.
    """
    check_strengths(strengths)
    for name in NEED_FAT:
        if strengths.get(name, 0) > 0 and (scan.fat is None or not scan.fat[scan.seen].any()):
            raise UserError(f"phantom: {name} needs fat in the picture, and a brain alone has none; leave it out")
    record = {}
    for name, artifact in ARTIFACTS.items():
        if strengths.get(name, 0) > 0:
            scan, details = artifact(scan, float(strengths[name]), stream(name))
            record[name] = {"strength": float(strengths[name]), **details}
    return scan, record
