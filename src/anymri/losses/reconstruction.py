"""Reconstruction losses between images, and KL terms of latent Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["gaussian_kl", "masked_l1", "masked_mean_squared_error", "weight_penalty"]


def masked_l1(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the voxels of a mask.

    Parameters
    ----------
    image, target : Tensor, shape (B, M, *S)
    mask : Tensor of bool, shape (B, M, *S)

    Returns
    -------
    Tensor, shape ()
        0 if the mask is empty.
    """
    return torch.where(mask, image - target, 0.0).abs().sum() / mask.sum().clamp_min(1)


def masked_mean_squared_error(image: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """Mean squared error over the channels that exist.

    Parameters
    ----------
    image : Tensor, shape (B, M, *S)
    target : Tensor, shape (B, M, *S)
        May hold anything, NaN included, where not `present`.
    present : Tensor of bool, shape (B, M)

    Returns
    -------
    Tensor, shape ()
        Mean over all voxels of the present channels; 0 if there are none.
    """
    mask = present.reshape(*present.shape, *([1] * (image.ndim - 2)))
    error = torch.where(mask, image.float() - torch.where(mask, target, 0.0).float(), 0.0)
    voxels = present.sum() * image[0, 0].numel()
    return (error**2).sum() / voxels.clamp_min(1)


def gaussian_kl(
    mean_1: Tensor,
    log_variance_1: Tensor,
    mean_2: Tensor | float = 0.0,
    log_variance_2: Tensor | float = 0.0,
    eps: float = 1e-7,
) -> Tensor:
    """Kullback-Leibler divergence KL(1 || 2) of diagonal Gaussians, element by element.

    Parameters
    ----------
    mean_1, log_variance_1 : Tensor
    mean_2, log_variance_2 : Tensor or float
        The second Gaussian; by default the standard normal.
    eps : float, default=1e-7
        Added to the second variance where it divides.

    Returns
    -------
    Tensor
        Of the common shape; not reduced.
    """
    variance_2 = torch.as_tensor(log_variance_2).exp() + eps
    distance = log_variance_1.exp() + (mean_1 - mean_2) ** 2
    return 0.5 * (log_variance_2 - log_variance_1 - 1 + distance / variance_2)


def weight_penalty(module: nn.Module) -> Tensor:
    """Mean over the convolutions of half their squared weights' sum.

    Parameters
    ----------
    module : torch.nn.Module

    Notes
    -----
    NiftyNet averages the L2 penalties of the layers instead of adding them, so it is tiny.
    """
    kernels = [layer.weight for layer in module.modules() if isinstance(layer, nn.Conv3d)]
    return torch.stack([0.5 * (kernel.float() ** 2).sum() for kernel in kernels]).mean()
