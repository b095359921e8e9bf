"""Gaussian process of many codes with a covariance of low rank, from sums over the codes alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Coefficients", "GaussianProcess", "Statistics", "expand"]


class Statistics(NamedTuple):
    """All that the likelihood of N codes needs of the codes Z (N, L) and their features V (N, R).

    Attributes
    ----------
    gram : Tensor, shape (R, R)
        V'V.
    cross : Tensor, shape (R, L)
        V'Z.
    square, number : Tensor, shape ()
        Sum of the squared codes, and N.
    """

    gram: Tensor
    cross: Tensor
    square: Tensor
    number: Tensor


class Coefficients(NamedTuple):
    """First-order Taylor coefficients of the negative log-likelihood at some codes.

    Attributes
    ----------
    codes : Tensor, shape (n, L)
    features : Tensor, shape (n, R)
    shares : Tensor, shape (2,)
    likelihood : Tensor, shape (n,)
        Each code's share of the negative log-likelihood, without ``L / 2 log(2 pi)``.
    """

    codes: Tensor
    features: Tensor
    shares: Tensor
    likelihood: Tensor


def expand(coefficients: Coefficients, codes: Tensor, features: Tensor, shares: Tensor, count: Tensor) -> Tensor:
    """Linear part of the Taylor expansion, one value for each code, shape (n,)."""
    linear = (coefficients.codes * codes).sum(dim=1) + (coefficients.features * features).sum(dim=1)
    return linear + (coefficients.shares * shares).sum() / count


class GaussianProcess(nn.Module):
    """Prior of codes: each latent column follows N(0, K), ``K = a_0 V V' + a_1 I``; the a are a softmax.

    Notes
    -----
    ``z = V w + noise`` with ``w ~ N(0, a_0 I)``: by Woodbury's identity everything follows from the sums of
    `Statistics`, whose size does not depend on N. K is never formed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_shares = nn.Parameter(torch.zeros(2))

    def shares(self) -> Tensor:
        """a_0 and a_1, shape (2,)."""
        return self.log_shares.softmax(dim=0)

    def posterior(self, known: Statistics) -> tuple[Tensor, Tensor]:
        """Mean (R, L) and covariance (R, R) of w given the codes."""
        features, rest = self.shares().to(known.gram.dtype)
        identity = torch.eye(len(known.gram), dtype=known.gram.dtype, device=known.gram.device)
        covariance = torch.linalg.inv(identity / features + known.gram / rest)
        return covariance @ known.cross / rest, covariance

    def coefficients(self, codes: Tensor, features: Tensor, known: Statistics) -> Coefficients:
        """Taylor coefficients at some of the N codes, detached."""
        with torch.no_grad():
            first, rest = self.shares().to(known.gram.dtype)
            mean, covariance = self.posterior(known)
            size = codes.shape[1]
            solved = (codes - features @ mean) / rest
            hat = covariance @ known.gram / rest
            features_solved = (features - features @ hat) / rest
            solved_features = (known.cross - known.gram @ mean) / rest
            by_feature = first * (size * features_solved - solved @ solved_features.T)
            trace = torch.einsum("ij,ji->", known.gram, (torch.eye(len(hat)).to(hat) - hat)) / rest
            by_first = 0.5 * size * trace - 0.5 * (solved_features**2).sum()
            squares = known.square - 2 * (mean * known.cross).sum() + (mean * (known.gram @ mean)).sum()
            by_rest = 0.5 * size * (known.number - hat.trace()) / rest - 0.5 * squares / rest**2
            # log det K = N log a_1 + log det(I + a_0 / a_1 V'V), and the latter is -log det of covariance / a_0.
            determinant = known.number * rest.log() - torch.linalg.slogdet(covariance / first)[1]
            likelihood = 0.5 * (codes * solved).sum(dim=1) + 0.5 * size * determinant / known.number
            return Coefficients(solved, by_feature, torch.stack([by_first, by_rest]), likelihood)

    def complete(self, known: Statistics, seen: Tensor, codes: Tensor, wanted: Tensor) -> Tensor:
        """Posterior mean of further codes of n slices given those in `known` and some of the slice's own.

        Parameters
        ----------
        known : Statistics
            Of the training; zeros for none.
        seen : Tensor, shape (n, S, R)
            Features of the codes that are there.
        codes : Tensor, shape (n, S, L)
        wanted : Tensor, shape (n, W, R)

        Returns
        -------
        Tensor, shape (n, W, L)
        """
        mean, covariance = self.posterior(known)
        rest = self.shares().to(mean.dtype)[1]
        spread_seen = seen @ covariance
        noise = rest * torch.eye(seen.shape[1], dtype=mean.dtype, device=mean.device)
        solved = torch.linalg.solve(spread_seen @ seen.transpose(1, 2) + noise, codes - seen @ mean)
        return wanted @ mean + wanted @ spread_seen.transpose(1, 2) @ solved
