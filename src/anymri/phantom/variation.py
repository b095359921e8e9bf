"""Anatomical variation between healthy brains, beyond the first, frozen anatomy.

References
----------
.. [1] A. Toga, P. Thompson, Mapping brain asymmetry, Nat Rev Neurosci 4, 2003, DOI 10.1038/nrn1009: petalia and
   torque.

Notes
-----
Ours: places of the deep nuclei, checked by laying them over the template's grey matter map, and which lateral ventricle
tends to be the wider one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import Grid

__all__ = ["NUCLEI", "Variation", "draw_variation"]

#: Deep nuclei: middle and half axes (z, y, x) in mm of the one on the right, MNI, and how much of it looks like grey
#: matter; the rest looks like white. Places, ellipsoids and shares are ours.
NUCLEI: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]] = {
    "thalamus": ((8.0, -18.0, 12.0), (8.5, 13.0, 8.0), 0.65),
    "pallidum": ((0.0, -2.0, 19.5), (5.5, 8.0, 4.0), 0.35),
    "putamen": ((2.0, 3.0, 26.5), (9.0, 15.0, 5.0), 0.90),
    "caudate": ((9.0, 12.0, 13.5), (9.0, 10.0, 4.5), 0.90),
}
#: Width of the border between the two sides, and of the edge of a nucleus, in mm.
_MIDDLE_MM, _EDGE_MM = 12.0, 1.0


@dataclass(frozen=True)
class Variation:
    """Anatomical variation of one subject's brain.

    Parameters
    ----------
    levels_mm : tuple of (float, float)
        Distance of the control points and standard deviation of further deformations, in mm.
    torque_mm : float
        How far the right half lies in front of the left one.
    wider : float
        By which share the right half is wider than the left one.
    ventricle_mm : float
        How far the ventricles' walls are pushed outwards.
    ventricle_asymmetry : float
        By which share more on the right than on the left.
    atrophy : float
        Added preference for CSF.
    nuclei : dict of str to float
        Share of grey matter of each deep nucleus.
    stream : numpy.random.Generator
        Of the deformations.
    """

    levels_mm: tuple[tuple[float, float], ...]
    torque_mm: float
    wider: float
    ventricle_mm: float
    ventricle_asymmetry: float
    atrophy: float
    nuclei: dict[str, float]
    stream: np.random.Generator

    #: Room in mm around the average brain that the deformations may need.
    MARGIN_MM = 14.0

    def to_dict(self) -> dict:
        """What was drawn, for the provenance record."""
        names = ("torque_mm", "wider", "ventricle_mm", "ventricle_asymmetry", "atrophy", "nuclei")
        return {"levels_mm": [list(level) for level in self.levels_mm]} | {name: getattr(self, name) for name in names}

    def bend(self, coordinates_mm: np.ndarray, grid: Grid) -> None:
        """Deform in place: MNI coordinates (3, D, H, W) of every voxel of a grid."""
        side = np.tanh(coordinates_mm[2] / _MIDDLE_MM)
        coordinates_mm[1] -= 0.5 * self.torque_mm * side
        coordinates_mm[2] *= 1 - 0.5 * self.wider * side
        for distance_mm, amplitude_mm in self.levels_mm:
            for row in coordinates_mm:
                row += amplitude_mm * smooth_noise(self.stream, grid, distance_mm)

    def ventricle_push_mm(self, points_mm: np.ndarray) -> np.ndarray:
        """How far outwards the ventricles push at MNI coordinates (3, N), in mm, shape (N,)."""
        return self.ventricle_mm * (1 + 0.5 * self.ventricle_asymmetry * np.tanh(points_mm[2] / _MIDDLE_MM))

    def add_nuclei(self, points_mm: np.ndarray, csf: np.ndarray, grey: np.ndarray, white: np.ndarray) -> None:
        """Turn brain tissue at MNI coordinates (3, N) into deep nuclei, in place; CSF stays."""
        z, y, x = points_mm
        tissue = 1 - csf
        for name, (middle, half, _) in NUCLEI.items():
            place = zip((z, y, np.abs(x)), middle, half, strict=True)
            distance = np.sqrt(sum(((row - at) / length) ** 2 for row, at, length in place))
            inside = np.clip((1 - distance) * min(half) / _EDGE_MM + 0.5, 0, 1)
            share = self.nuclei[name]
            grey += inside * (share * tissue - grey)
            white += inside * ((1 - share) * tissue - white)


def draw_variation(stream: np.random.Generator) -> Variation:
    """Draw one subject's variation.

    Parameters
    ----------
    stream : numpy.random.Generator
        Its own: nothing else of the subject depends on it.

    Notes
    -----
    Torque leans the way that most people do [1]_; the wider left ventricle and all ranges are ours, set by eye. Deep
    nuclei are mixtures of grey and white matter, so they have no iron of their own: in reality T2 shortens with it.
    """
    return Variation(
        levels_mm=((70.0, float(stream.uniform(2.5, 5.0))), (32.0, float(stream.uniform(1.0, 2.2)))),
        torque_mm=float(stream.normal(2.0, 2.5)),
        wider=float(stream.normal(0.01, 0.03)),
        ventricle_mm=float(stream.triangular(-3.0, 2.0, 18.0)),
        ventricle_asymmetry=float(stream.normal(-0.1, 0.3)),
        atrophy=float(stream.triangular(-0.2, 0.1, 1.4)),
        nuclei={name: float(np.clip(share + stream.normal(0, 0.06), 0, 1)) for name, (_, _, share) in NUCLEI.items()},
        stream=stream,
    )
