"""Scanner kinds: in-plane resolution and image filter, drawn per subject.

All numbers are ours, around usual protocols. The kinds stand for the differences between makers; none is one maker's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anymri.phantom.artifacts.acquisition import Artifacts, draw_artifacts
from anymri.phantom.settings import MAPS

__all__ = ["ACQUISITION_OF", "Scanner", "as_scanned", "draw_acquisition", "draw_scanner"]

#: Sequences that come from one acquisition, by its name: they share resolution and slices.
ACQUISITION_OF = (
    dict.fromkeys(("dwi", "adc", "md"), "dwi")
    | dict.fromkeys(("cbf", "cbv", "ttp", "tmax"), "perfusion")
    | dict.fromkeys(("t1_in", "t1_out"), "t1_dual")
)


@dataclass(frozen=True)
class Scanner:
    """One kind of scanner: its image filter, and how wide its voxels are relative to those of the others."""

    kind: str
    image_filter: str
    width: float


SCANNER_KINDS = (Scanner("A", "fermi", 1.0), Scanner("B", "hann", 0.95), Scanner("C", "sharpened", 1.1))

#: Width of a voxel within the slice, slice thickness and gap in mm, (low, high) each; thickness 0: three-dimensional.
_RESOLUTION = {
    "t1": ((0.5, 1.1), None, (0.0, 1.0)),
    "t1c": ((0.5, 1.1), None, (0.0, 1.0)),
    "t2": ((0.4, 1.0), None, (0.0, 1.0)),
    "flair": ((0.6, 1.2), None, (0.0, 1.0)),
    "pd": ((0.6, 1.0), (2.0, 5.0), (0.0, 1.0)),
    "mprage": ((0.8, 1.1), (0.0, 0.0), (0.0, 0.0)),
    "dir": ((1.0, 1.4), (0.0, 0.0), (0.0, 0.0)),
    "dwi": ((1.4, 2.2), (4.0, 6.0), (0.0, 1.5)),
    "perfusion": ((1.7, 2.3), (5.0, 6.5), (0.0, 1.5)),
    "t2_spir": ((1.2, 1.8), (5.5, 8.0), (0.5, 1.5)),
    "t1_dual": ((1.2, 1.8), (5.0, 7.0), (0.0, 1.0)),
}


def draw_scanner(generator: np.random.Generator) -> Scanner:
    """One of the three kinds."""
    return SCANNER_KINDS[int(generator.integers(len(SCANNER_KINDS)))]


def as_scanned(generator: np.random.Generator, acquisition: Artifacts, sequence: str, scanner: Scanner) -> Artifacts:
    """The acquisition of T1, T1c, T2 or FLAIR with a scanner's filter, resolution and, between thick slices, gap."""
    (low, high), _, gap = _RESOLUTION[sequence]
    width, gap_mm = float(generator.uniform(low, high)), float(generator.uniform(*gap))
    return replace(
        acquisition,
        in_plane_mm=width * scanner.width,
        gap_mm=gap_mm if acquisition.slice_mm else 0.0,
        image_filter=scanner.image_filter,
    )


def draw_acquisition(generator: np.random.Generator, sequence: str, contrast: str, scanner: Scanner) -> Artifacts:
    """Draw how a sequence beyond T1, T1c, T2 and FLAIR is measured.

    Parameters
    ----------
    generator : numpy.random.Generator
        The same state for all sequences of one acquisition.
    sequence : str
    contrast : {"physics", "random"}
    scanner : Scanner

    Notes
    -----
    Maps are ratios or fits: they have no sensitivity and no grey scale of their own. Their noise is Rician too, which
    that of a computed map is not.
    """
    width, thickness, gap = _RESOLUTION[ACQUISITION_OF.get(sequence, sequence)]
    drawn = draw_artifacts(generator, sequence, contrast)
    slice_mm = float(generator.uniform(*thickness)) if thickness else 0.0
    drawn = replace(
        drawn,
        slice_axis=0 if slice_mm else drawn.slice_axis,
        slice_mm=slice_mm,
        gap_mm=float(generator.uniform(*gap)),
        in_plane_mm=float(generator.uniform(*width)) * scanner.width,
        image_filter=scanner.image_filter,
        blur_mm=0.0,
    )
    return replace(drawn, bias=0.0, gamma=1.0, edge=0.0, remnants=0.0) if sequence in MAPS else drawn
