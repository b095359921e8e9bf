"""Options of the files that a prediction leaves, handed to every writer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OutputOptions"]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of the files that a prediction leaves.

    Parameters
    ----------
    probabilities : bool, default=False
        Whether to write the probability of every region and the uncertainty as NIfTI images, too.
    deidentify : bool, default=False
        Whether DICOM objects leave out what the source says of the person; see `anymri.inference.output.deidentify`.
    seg_series : str or None, default=None
        Modality whose DICOM series the segmentation object refers to; None = the one on whose grid the result is.
    """

    probabilities: bool = False
    deidentify: bool = False
    seg_series: str | None = None
