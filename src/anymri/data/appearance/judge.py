"""Sequence classifier: T1, T2 or FLAIR, by a linear function of the numbers of `measures`.

Its coefficients are fitted to digital phantoms alone, as `experiments/sequence_judge.py` does. The weight of the
penalty, the clipping and the limits of the decision were set with real studies in view, so figures on those are
optimistic.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from anymri.data.appearance.brain_frame import align, overlap, shrink, to_frame
from anymri.data.appearance.measures import BRAIN_SHARE, Maps, make_maps, measure, tissue_means
from anymri.errors import UserError
from anymri.records import REINSTALL

__all__ = ["GROUPS", "Appearance", "judge_appearance"]

#: What can be told apart, and the sequences of the phantoms that belong to it. With or without contrast agent a T1 is
#: a T1: tissue looks the same.
GROUPS = {
    "t1": ("t1", "t1c", "mprage"),
    "t2": ("t2",),
    "flair": ("flair",),
    "pd": ("pd",),
    "dwi": ("dwi",),
    "adc": ("adc",),
}
#: A brain must fill the average brain so far (Dice) to be judged: less is a slab, half a brain, or none.
FITS = 0.9
#: Fewest voxels of the frame with brain: 100 ml.
LEAST = 1600


class Appearance(NamedTuple):
    """Sequence that an image looks like.

    Attributes
    ----------
    looks_like : str or None
        The likeliest of ``"t1"``, ``"t2"`` and ``"flair"``; None where nothing can be said.
    probability : dict of str to float
        Of these three, if it is one of them; empty where nothing can be said.
    foreign : dict of str to float
        Of these and of ``"pd"``, ``"dwi"`` and ``"adc"``.
    tissue : dict of str to float
        Brightness of ``csf``, ``grey`` and ``white``, in the image's own units.
    overlap : float
        Dice of the brain with the average brain after alignment.
    """

    looks_like: str | None
    probability: dict[str, float]
    foreign: dict[str, float]
    tissue: dict[str, float]
    overlap: float


class _Judge(NamedTuple):
    maps: Maps
    names: list[str]
    arrays: dict[str, NDArray[Any]]


def judge_appearance(array: NDArray[Any], spacing_mm: tuple[float, ...]) -> Appearance:
    """What a brain without skull looks like.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
        Background 0.
    spacing_mm : tuple of float
        Along (D, H, W).
    """
    small = shrink(array, spacing_mm)
    nothing = Appearance(None, {}, {}, {}, 0.0)
    if small is None or small.share.sum() * np.prod(small.step_mm) < LEAST * 64:
        return nothing
    judge = _load()
    values, share = to_frame(small, align(small, judge.maps.brain), judge.maps.brain.shape)
    fits = overlap(share, judge.maps.brain)
    inside = share > BRAIN_SHARE
    if fits < FITS or inside.sum() < LEAST or np.ptp(values[inside]) == 0:
        return nothing._replace(overlap=fits)
    numbers = measure(values, share, judge.maps)
    row = np.array([numbers[name] for name in judge.names])
    three, six = (_probability(row, judge.arrays, model) for model in ("three", "six"))
    return Appearance(max(three, key=three.__getitem__), three, six, tissue_means(values, share, judge.maps), fits)


def _probability(row: NDArray[np.float64], arrays: dict[str, NDArray[Any]], model: str) -> dict[str, float]:
    """Probability of every group by one of the two classifiers."""
    scaled = np.clip((row - arrays["mean"]) / arrays["spread"], -float(arrays["clip"]), float(arrays["clip"]))
    logits = arrays[f"{model} coefficients"] @ scaled + arrays[f"{model} intercept"]
    chance = np.exp(logits - logits.max())
    chance /= chance.sum()
    codes = [str(code) for code in arrays[f"{model} codes"]]
    groups = {group: [codes.index(code) for code in members if code in codes] for group, members in GROUPS.items()}
    return {group: float(chance[places].sum()) for group, places in groups.items() if places}


@lru_cache(maxsize=1)
def _load() -> _Judge:
    place = resources.files("anymri.data.appearance") / "judge.npz"
    try:
        with place.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
            raise ValueError("holds NaN or infinite values")
    except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as error:  # the archive has a checksum of each array
        raise UserError(f"{place}: is damaged ({error}); {REINSTALL}") from None
    maps = [arrays.pop(name).astype(np.float32) / 255 for name in ("brain", "csf", "grey", "white", "ventricle")]
    return _Judge(make_maps(*maps), [str(name) for name in arrays.pop("names")], arrays)
