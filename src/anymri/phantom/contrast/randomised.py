"""Randomised contrast for networks that must generalise to any scanner.

References
----------
.. [1] B. Billot et al., SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining,
   Med Image Anal 86, 2023, DOI 10.1016/j.media.2023.102789: learning from images of random contrast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from anymri.phantom.contrast.tissues import LATER, SAME_AS
from anymri.phantom.pathology import COMPARTMENTS

__all__ = ["jitter", "random_signals"]

Signal = TypeVar("Signal", float, complex)

#: Brightness of each compartment in random contrast, (low, high) of a uniform draw; brain is about 0 with spread 1.
#: Wide, but each sequence keeps what makes it that sequence: CSF is dark in T1 and FLAIR and bright in T2, tumour is
#: bright in FLAIR and T2 and faintly dark in T1, and enhancing tumour and vessels are bright in T1c only.
_RANDOM: dict[str, dict[str, tuple[float, float]]] = {
    "t1": {
        "csf": (-4.0, -2.0),
        "grey": (-0.6, 0.2),
        "white": (0.3, 1.1),
        "edema": (-0.7, 0.7),
        "solid": (-1.0, 0.6),
        "necrosis": (-2.5, 0.3),
        "wmh": (-0.4, 0.7),
        "blood": (-2.0, 1.5),
        "cavity": (-4.0, -1.5),
        "plaque": (-0.8, 0.6),
        "black_hole": (-2.5, -0.5),
        "active": (-0.9, 0.5),
        "acute_core": (-0.7, 0.4),
        "subacute_core": (-1.3, 0.3),
        "microcystic": (-2.2, 0.0),
        "hemorrhage": (0.5, 3.0),
    },
    "t1c": {
        "csf": (-4.0, -2.0),
        "grey": (-0.6, 0.2),
        "white": (0.2, 1.0),
        "edema": (-0.8, 0.7),
        "solid": (-1.0, 0.7),
        "enhancing": (1.2, 4.5),
        "necrosis": (-2.5, 0.2),
        "wmh": (-0.4, 0.7),
        "blood": (0.5, 4.5),
        "cavity": (-4.0, -1.5),
        "plaque": (-0.8, 0.6),
        "black_hole": (-2.5, -0.5),
        "active": (0.9, 4.0),
        "acute_core": (-0.7, 0.4),
        "subacute_core": (-1.3, 1.5),
        "microcystic": (-2.2, 0.0),
        "hemorrhage": (0.5, 3.0),
    },
    "t2": {
        "csf": (1.8, 4.5),
        "grey": (-0.4, 0.4),
        "white": (-1.2, -0.5),
        "edema": (0.3, 1.9),
        "solid": (0.3, 2.4),
        "necrosis": (0.8, 4.0),
        "wmh": (0.0, 1.2),
        "blood": (-2.0, 0.5),
        "cavity": (1.8, 4.5),
        "plaque": (0.2, 1.8),
        "black_hole": (0.7, 3.0),
        "active": (0.3, 2.0),
        "acute_core": (-0.1, 1.2),
        "subacute_core": (0.4, 2.4),
        "microcystic": (0.9, 4.0),
        "hemorrhage": (-2.5, 0.5),
    },
    "flair": {
        "csf": (-3.5, -1.5),
        "grey": (-0.1, 0.7),
        "white": (-0.7, 0.2),
        "edema": (1.0, 3.0),
        "solid": (0.8, 3.2),
        "necrosis": (-1.2, 3.0),
        "wmh": (0.6, 2.2),
        "blood": (-2.0, 0.5),
        "cavity": (-3.0, -0.3),
        "plaque": (0.9, 2.8),
        "black_hole": (-0.5, 2.4),
        "active": (1.0, 3.0),
        "acute_core": (0.2, 1.8),
        "subacute_core": (0.9, 3.0),
        "microcystic": (-1.0, 2.5),
        "hemorrhage": (-2.0, 1.5),
    },
}


#: Spread of the brain's values over their mean in random contrast, (low, high): that of real studies, and beyond.
_RANDOM_SPREAD = {"t1": (0.12, 0.32), "t1c": (0.12, 0.32), "t2": (0.22, 0.42), "flair": (0.16, 0.34)}


def random_signals(generator: np.random.Generator, sequence: str) -> dict[str, float]:
    """Draw an arbitrary positive signal for every compartment of a sequence, in the spirit of [1]_.

    Parameters
    ----------
    generator : numpy.random.Generator
    sequence : {"t1", "t1c", "t2", "flair"}
    """
    spread = generator.uniform(*_RANDOM_SPREAD[sequence])
    later = generator.spawn(1)[0]
    signals = {
        name: float((later if name in LATER else generator).uniform(low, high))
        for name, (low, high) in _RANDOM[sequence].items()
    }
    for name, other in SAME_AS.items():
        signals.setdefault(name, signals[other])
    return {name: float(max(0.03, 1 + spread * signals[name])) for name in COMPARTMENTS}


def jitter(generator: np.random.Generator, signals: Mapping[str, Signal], spread: float) -> dict[str, Signal]:
    """Multiply the signal of every compartment by a log-normal factor of its own.

    Parameters
    ----------
    generator : numpy.random.Generator
    signals : dict of str to float
    spread : float
        Standard deviation of the factor's logarithm; 0 changes nothing.
    """
    factors = np.exp(generator.normal(0, spread, len(signals)))
    return {name: value * float(factor) for (name, value), factor in zip(signals.items(), factors, strict=True)}
