"""Sequence check: whether an image is the sequence it was given as, by the image, never by name or header."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.data.appearance import Appearance, judge_appearance
from anymri.data.nifti import Volume
from anymri.inference.trust.enhancement import SAME_CONTRAST, enhancement
from anymri.inference.trust.no_image import why_no_image
from anymri.modalities import MODALITIES
from anymri.threads import map_parts
from anymri.types import UserError

__all__ = ["GROUP", "SequenceCheck", "brains_of", "check_sequences", "refuse_wrong_labels"]

#: What tissue can tell of a sequence: with and without contrast agent, spin echo or MP-RAGE, T1 is T1.
GROUP = {"t1": "t1", "t1c": "t1", "mprage": "t1", "t2": "t2", "flair": "flair"}
NAME = {
    "t1": "T1",
    "t2": "T2",
    "flair": "FLAIR",
    "pd": "proton density",
    "dwi": "diffusion weighting",
    "adc": "an ADC map",
}
#: An image is doubted when another of T1, T2 and FLAIR is so many times as probable as the one named. Below it nothing
#: is said: what is nearly as likely cannot be told. Set with 15 real studies in view.
#: FLAIR with a short inversion time or little T2 weighting shows white matter as bright as grey, as T1 does (about one
#: in 20 phantoms by the signal equations); there it takes more.
DOUBTED = 1.5
DOUBTED_FLAIR_AS_T1 = 8.0
#: Two files are taken for swapped when that is so many times as probable as the names being right.
SWAPPED = 3.0
#: Voxels up to this size, in mm, show the vessels by which a brain enhances wherever agent was given.
FINE_MM = 2.0
#: Another kind of image (PD, DWI, ADC) must be so many times as probable as the sequence named.
FOREIGN = 50.0


class SequenceCheck(NamedTuple):
    """Outcome of the check.

    Attributes
    ----------
    sentences : dict of str to str
        Modality code to what is wrong with its image; empty if all is well or nothing can be said.
    record : dict of str to dict
        For `result.json`: ``looks_like`` (null: cannot be told), ``probability``, ``tissue`` in the image's units; for
        T1c beside T1 also ``enhancement``.
    """

    sentences: dict[str, str]
    record: dict[str, dict[str, Any]]


def check_sequences(volumes: Mapping[str, Volume]) -> SequenceCheck:
    """Compare every image with the sequence it was given as.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to brain image, background 0, all on one grid; codes outside `GROUP` are passed over.

    Returns
    -------
    SequenceCheck

    Notes
    -----
    A T1 given alone as T1c, or a T1c as T1, is not noticed: without the other one nothing in an image says whether
    agent was given, as long as nothing enhances. Two T1 without agent, one named T1c, are noticed where voxels measure
    at most `FINE_MM`: in coarser ones an image with agent may look the same. ``enhancement`` in the record is near 0.
    """
    judged = {code: volumes[code] for code in volumes if code in GROUP}
    looked = map_parts(_look, judged)
    sentences = {code: look for code, look in looked.items() if isinstance(look, str)}
    looks = {code: look for code, look in looked.items() if not isinstance(look, str)}
    record: dict[str, dict[str, Any]] = {code: _describe(look) for code, look in looks.items()}
    record |= {code: {"looks_like": "no image of a brain"} for code in sentences}
    sure = {code: look for code, look in looks.items() if look.looks_like is not None}
    swapped = _swapped(sure)
    for code, look in sure.items():
        if code in swapped or _doubted(GROUP[code], look):
            sentences[code] = _sentence(code, look, swapped.get(code))
        elif (other := _foreign(code, look)) is not None:
            sentences[code] = _sentence(code, look, None, other)
    if {"t1", "t1c"} <= sure.keys() and not {"t1", "t1c"} & sentences.keys():
        value = enhancement(volumes["t1"], volumes["t1c"])
        if value is not None:
            record["t1c"]["enhancement"] = round(value, 3)
            fine = max(volumes["t1c"].geometry.spacing_mm) <= FINE_MM
            sentences |= _enhancement_sentences(value, fine=fine)
    return SequenceCheck({code: sentences[code] for code in volumes if code in sentences}, record)


def refuse_wrong_labels(found: SequenceCheck, volumes: Mapping[str, Volume]) -> None:
    """Refuse a study with a wrong label.

    Raises
    ------
    UserError
        For the first image that does not look like its sequence.
    """
    for code, sentence in found.sentences.items():
        source = volumes[code].source or MODALITIES[code].long_name
        raise UserError(f"{source}: given as {MODALITIES[code].long_name}, {sentence}; --check-labels warn goes on")


def _look(code: str, volume: Volume) -> Appearance | str:
    """What an image looks like, or why it is no image of a brain."""
    why = why_no_image(volume.array, volume.geometry.spacing_mm)
    return why if why is not None else judge_appearance(volume.array, volume.geometry.spacing_mm)


def _describe(look: Appearance) -> dict[str, Any]:
    return {
        "looks_like": look.looks_like,
        "probability": {group: round(value, 4) for group, value in look.probability.items()},
        "tissue": {name: float(f"{value:.4g}") for name, value in look.tissue.items()},
    }


def _doubted(mine: str, look: Appearance) -> bool:
    like = max(look.probability, key=look.probability.__getitem__)
    limit = DOUBTED_FLAIR_AS_T1 if (mine, like) == ("flair", "t1") else DOUBTED
    return look.probability[like] > limit * look.probability[mine]


def _swapped(looks: Mapping[str, Appearance]) -> dict[str, str]:
    """Files that fit better under each other's name."""
    found = []
    for one, other in combinations(looks, 2):
        mine, yours = GROUP[one], GROUP[other]
        first, second = looks[one].probability, looks[other].probability
        # Each must be more like the other's name: else one wrong file would accuse a right one.
        if mine != yours and first[yours] > first[mine] and second[mine] > second[yours]:
            odds = first[yours] * second[mine] / max(first[mine] * second[yours], 1e-12)
            if odds > SWAPPED:
                found.append((odds, one, other))
    best: dict[str, str] = {}
    for _, one, other in sorted(found, reverse=True):
        if one not in best and other not in best:
            best |= {one: other, other: one}
    return best


def _foreign(code: str, look: Appearance) -> str | None:
    """Another kind of image that this one must be, if it cannot be what it was given as."""
    chance = look.foreign
    likeliest = max(chance, key=chance.__getitem__)
    if likeliest in look.probability or chance[likeliest] < FOREIGN * chance[GROUP[code]]:
        return None
    return likeliest


def _sentence(code: str, look: Appearance, partner: str | None, other: str | None = None) -> str:
    """What is wrong, without the name in front."""
    mine = GROUP[code]
    like = other or max((group for group in look.probability if group != mine), key=look.probability.__getitem__)
    text = f"does not look like {NAME[mine]} but like {NAME[like]}{_brightness(look)}"
    if partner is not None:
        return f"{text}; if it was swapped with {MODALITIES[partner].long_name}, swap them back"
    return f"{text}; check which sequence it is"


def _brightness(look: Appearance) -> str:
    """How bright CSF and grey matter are, where values have a zero."""
    white = look.tissue["white"]
    if min(look.tissue.values()) <= 0:
        return ""
    csf, grey = look.tissue["csf"] / white, look.tissue["grey"] / white
    return f" (CSF {csf:.1f} and grey matter {grey:.1f} times as bright as white matter)"


def _enhancement_sentences(value: float, *, fine: bool) -> dict[str, str]:
    numbers = f"enhancement {value:.1f}; above 0 is right"
    if value < -SAME_CONTRAST:
        return {
            "t1": f"shows enhancement that the contrast-enhanced image lacks ({numbers}); if the two were swapped, "
            "swap them back",
            "t1c": f"lacks enhancement that the T1-weighted image shows ({numbers}); if the two were swapped, "
            "swap them back",
        }
    if fine and value < SAME_CONTRAST:
        return {
            "t1c": f"shows nothing that enhances beside the T1-weighted image (enhancement {value:.1f}; with contrast "
            "agent above 1 in all real pairs that were looked at); check that agent was given"
        }
    return {}


def brains_of(heads: Mapping[str, NDArray[np.float32]], images: Mapping[str, Volume]) -> dict[str, Volume]:
    """Brains of a raw study in the values of the scanner.

    Parameters
    ----------
    heads : mapping of str to ndarray, shape (D, H, W)
    images : mapping of str to Volume
        The same without skull, whatever was done to their values.
    """
    return {
        code: Volume(np.where(image.array != 0, heads[code], np.float32(0)), image.geometry, image.source)
        for code, image in images.items()
    }
