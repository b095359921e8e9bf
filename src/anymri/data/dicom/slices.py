"""Slices of one acquisition: in order, evenly spaced, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.data.dicom.classify import numeric
from anymri.data.dicom.headers import Frame, numbers

__all__ = ["Stack", "separate_repeats", "sparse", "stack_slices"]

#: Fewest slices of a series that covers a brain.
MIN_SLICES = 10
#: Largest difference of two gaps, as a share of the usual one.
TOLERANCE = 0.1
#: Slices closer than this share of the usual gap lie at one place.
SAME_PLACE = 0.02
#: More images of every place are a time series.
MAX_REPEATS = 4


class Stack(NamedTuple):
    """Slices that can be read as a volume.

    Attributes
    ----------
    frames : list of Frame
        From one end to the other, evenly spaced.
    problem : str
        Why they are not to be used; empty if they are.
    notes : tuple of str
        What people should know of those that are used.
    extent_mm : float
        Thickness of the whole.
    voxel_mm3 : float
        Volume of a voxel; 0 where unknown.
    """

    frames: list[Frame]
    problem: str = ""
    notes: tuple[str, ...] = ()
    extent_mm: float = 0.0
    voxel_mm3: float = 0.0


def stack_slices(frames: list[Frame]) -> Stack:
    """Put slices in order and take the largest part without a gap.

    Parameters
    ----------
    frames : list of Frame
        Of one acquisition; no two at one place.
    """
    if any(frame.position is None or frame.orientation is None for frame in frames):
        return Stack(frames, "its header does not say where the slices lie")
    if len(frames) < 2:
        return Stack(frames, f"incomplete: {len(frames)} slices" if len(frames) != 1 else "incomplete: 1 slice")
    depth = _depths(frames)
    order = np.argsort(depth, kind="stable")
    frames, places = [frames[index] for index in order], np.array([frames[index].position for index in order])
    steps = np.diff(depth[order])
    gap = float(np.median(steps))
    if gap < 1e-3:
        return Stack(frames, "its slices lie at one place")
    # Slices shifted against each other within their plane do not stack, either.
    shift = np.abs(np.diff(places, axis=0) - np.median(np.diff(places, axis=0), axis=0)).max(axis=1)
    even = (np.abs(steps - gap) <= TOLERANCE * gap) & (shift <= TOLERANCE * gap)
    first, last = _longest_run(even)
    used = frames[first : last + 1]
    spacing = numbers(used[0].facts.get("PixelSpacing"), 2)
    voxel = 0.0 if spacing is None else float(np.prod(spacing)) * gap
    few = f"incomplete: {len(frames)} slices" if len(used) < MIN_SLICES else ""
    stack = Stack(used, few, (), gap * len(used), voxel)
    if even.all():
        return stack._replace(notes=tuple(sparse(used[0], gap)))
    what = _what_is_wrong(steps, even, gap)
    part = f"the largest part without a gap has {len(used)} of {len(frames)} slices ({gap * len(used):.0f} mm)"
    if 2 * len(used) < len(frames) or stack.problem:
        return stack._replace(problem=f"incomplete: {what}; {part}, too few")
    return stack._replace(notes=(f"{what}; {part} and was taken, the rest of the head is not seen",))


def _depths(frames: Iterable[Frame]) -> NDArray[np.float64]:
    """Place of each slice along the first one's normal, in mm."""
    frames = list(frames)
    orientation = frames[0].orientation
    assert orientation is not None
    return np.array([frame.position for frame in frames], float) @ np.cross(*orientation)


def _longest_run(even: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last slice of the longest run of even steps; the first of equals."""
    breaks = np.concatenate([[-1], np.flatnonzero(~even), [even.size]])
    best = int(np.argmax(np.diff(breaks)))
    return int(breaks[best]) + 1, int(breaks[best + 1])


def _what_is_wrong(steps: NDArray[np.float64], even: NDArray[np.bool_], gap: float) -> str:
    """Missing slices leave gaps of a multiple of the usual one."""
    odd = steps[~even] / gap
    whole = np.round(odd)
    if (whole >= 2).all() and (np.abs(odd - whole) <= TOLERANCE * whole).all():
        count = int((whole - 1).sum())
        return f"{count} slice{'s are' if count > 1 else ' is'} missing in between"
    return f"its slices are unevenly spaced ({steps.min():.3g} to {steps.max():.3g} mm)"


def sparse(frame: Frame, gap: float) -> Iterable[str]:
    """A doubt where slices lie much wider apart than the header says, as when every second one is missing."""
    told, thickness = (numeric(frame.facts.get(name)) or 0 for name in ("SpacingBetweenSlices", "SliceThickness"))
    # Some scanners write the empty gap between slices into that field, which is less than their thickness.
    if 0 < thickness * 0.99 <= told and gap > 1.5 * told:
        yield f"its slices lie {gap:.3g} mm apart where the header says {told:.3g} mm; slices are probably missing"


def separate_repeats(frames: list[Frame]) -> tuple[list[list[Frame]], int]:
    """Part images of one place that differ; drop those that are the same.

    Parameters
    ----------
    frames : list of Frame

    Returns
    -------
    list of list of Frame
        One list an acquisition, in the order they were made.
    int
        Number of frames that were there twice and were dropped.
    """
    if len(frames) < 2 or any(frame.position is None or frame.orientation is None for frame in frames):
        return [frames], 0
    depth = _depths(frames)
    order = np.argsort(depth, kind="stable")
    steps = np.diff(depth[order])
    same = max(1e-3, SAME_PLACE * float(np.median(steps[steps > 1e-3]))) if (steps > 1e-3).any() else 1e-3
    places: list[list[Frame]] = [[frames[order[0]]]]
    for index, step in zip(order[1:], steps, strict=True):
        if step > same:
            places.append([])
        places[-1].append(frames[index])
    # Of a long time series it does not matter which frames are copies.
    compared = [place for place in places if len(place) > 1] if max(map(len, places)) <= 2 * MAX_REPEATS else []
    contents = _contents(frame for place in compared for frame in place)
    dropped = 0
    for number, place in enumerate(places):
        made = sorted(place, key=_made, reverse=True)
        kept = {contents.get(id(frame), str(turn).encode()): frame for turn, frame in enumerate(made)}
        dropped += len(place) - len(kept)
        places[number] = sorted(kept.values(), key=_made)
    count = max(map(len, places))
    return [[place[turn] for place in places if turn < len(place)] for turn in range(count)], dropped


def _made(frame: Frame) -> tuple[float, float, float, str, int]:
    """When a frame was made, as far as its numbers tell."""
    told = [numeric(frame.facts.get(name)) or 0 for name in ("TemporalPositionIdentifier", "AcquisitionNumber")]
    return (told[0], told[1], numeric(frame.facts.get("InstanceNumber")) or 0, str(frame.file), frame.index or 0)


def _contents(frames: Iterable[Frame]) -> dict[int, bytes]:
    """A digest of the pixels of each frame, by the frame's identity; one that cannot be read equals no other."""
    from anymri.data.dicom.pixels import read_pixels

    found: dict[int, bytes] = {}
    for file, members in groupby(frames, key=lambda frame: frame.file):
        together = list(members)
        try:
            for frame, pixels in zip(together, read_pixels(together), strict=True):
                found[id(frame)] = hashlib.sha256(pixels.tobytes()).digest()
        except Exception:  # whatever a damaged file raises; the reader will say it
            found |= {id(frame): f"{file} {frame.index}".encode() for frame in together}
    return found
