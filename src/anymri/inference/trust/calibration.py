"""Calibration record: what a model reached on studies it had not seen, and how far its probabilities told it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from anymri.records import RECORD, Digest, read_record
from anymri.zoo.card import RegionScore

__all__ = ["Calibration", "CellCalibration", "Gain", "SubsetCalibration", "read_calibration"]

Share = Annotated[float, Field(gt=0, lt=1)]
#: What to do where a calibration cannot be read.
AGAIN = "make it again with anymri calibrate"


@dataclass(frozen=True, kw_only=True)
class CellCalibration:
    """One region from one subset of sequences.

    Parameters
    ----------
    score : RegionScore
        Dice on the unseen studies.
    residuals : list of float
        True minus expected Dice, sorted, of the studies in which the region was marked; the expectation of each is
        that of a fit without it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    score: RegionScore
    residuals: list[float]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What one more sequence added to the Dice of a region in the same unseen studies.

    Parameters
    ----------
    mean : float
        Mean difference of the Dice.
    error : float or None
        Standard error of the mean; None of fewer than two studies.
    n : int
        Studies.
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    mean: float
    error: NonNegativeFloat | None
    n: NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class SubsetCalibration:
    """One subset of sequences.

    Parameters
    ----------
    studies : int
    regions : dict of str to CellCalibration
    gain : dict of str to dict of str to Gain
        Missing sequence to region.
    margins_mm : list of float
        Distance, sorted, within which of the mask of the largest region `Calibration.margin_share` of the true region
        lies; of the studies that have the region and a mask of it.
    no_margin : int
        Studies that have the region, but no mask of it.
    missed : list of float
        Mean share of the true region that is below each of `Calibration.thresholds`.
    features : dict of str to list of two float
        Name to mean and standard deviation, see `anymri.inference.trust.features.study_features`.
    distances : list of float
        Distance, sorted, of every study from the others.
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    studies: PositiveInt
    regions: dict[str, CellCalibration]
    gain: dict[str, dict[str, Gain]]
    margins_mm: list[NonNegativeFloat]
    no_margin: NonNegativeInt
    missed: list[float]
    features: dict[str, list[float]]
    distances: list[NonNegativeFloat]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Content of ``calibration.json``.

    Parameters
    ----------
    weights_sha256 : str
        Checksum of the weights that it belongs to, as in ``result.json``.
    model : str
    measured_on : str
        Which studies, in words.
    studies : int
        Number of studies.
    by : list of str
        Checksums of the weights that predicted them: the same, or those of fold models.
    confidence : float
        Of intervals and margin.
    margin_share : float
        Share of the largest region that the margin holds.
    missed_share : float
        Share of the largest region that the cautious mask misses at most, on average.
    thresholds : list of float
        Of the probability of the largest region, falling.
    coefficients : dict of str to list of float
        Region to the linear predictor of its Dice: constant, `soft_dice`, then one of each sequence given.
    subsets : dict of str to SubsetCalibration
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1] = 1
    weights_sha256: Digest
    model: str
    measured_on: str
    studies: PositiveInt
    by: list[Digest]
    confidence: Share
    margin_share: Share
    missed_share: Share
    thresholds: list[float]
    coefficients: dict[str, list[float]]
    subsets: dict[str, SubsetCalibration] = field(default_factory=dict)


def read_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises
    ------
    UserError
        If it is damaged or was changed by hand.
    """
    return read_record(path, Calibration, AGAIN)
