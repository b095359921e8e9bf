"""Windows as batches of axial slices, for networks that work within slices."""

from __future__ import annotations

from torch import Tensor

__all__ = ["from_slices", "to_slices"]


def to_slices(image: Tensor) -> Tensor:
    """Slices as rows.

    Parameters
    ----------
    image : Tensor, shape (B, M, D, H, W)

    Returns
    -------
    Tensor, shape (B * D, M, H, W)
    """
    return image.transpose(1, 2).flatten(0, 1)


def from_slices(slices: Tensor, depth: int) -> Tensor:
    """Undo `to_slices`.

    Parameters
    ----------
    slices : Tensor, shape (B * D, M, H, W)
    depth : int
        D.

    Returns
    -------
    Tensor, shape (B, M, D, H, W)
    """
    return slices.unflatten(0, (-1, depth)).transpose(1, 2)
