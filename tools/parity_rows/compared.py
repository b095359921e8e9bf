"""What the rows of the parity page share: the goldens they read and the comparison over subsets."""

from __future__ import annotations

from typing import Any

import torch
from parity import Golden
from torch import Tensor

from anymri.types import GLIOMA

#: What is compared: our parameters, theirs, and the largest difference of each subset.
Row = tuple[str, int, int, dict[str, float]]


def any_subset(golden: Golden, method: Any, image: Tensor, subsets: tuple[str, ...]) -> dict[str, float]:
    """Differences of a network for any subset, on images (x, y, z)."""
    features = method.encode(image.transpose(2, 4), torch.ones(1, 4, dtype=torch.bool))
    shown = {subset: GLIOMA.available(subset.split("+"))[None] for subset in subsets}
    return {s: golden.difference(s, method.decode(features, row).logits.transpose(2, 4)) for s, row in shown.items()}


def in_our_order(image: Tensor, order: tuple[str, ...]) -> Tensor:
    """Channels of the authors' order, in that of `GLIOMA`."""
    return image[:, [order.index(code) for code in GLIOMA.modalities]]


def one_network(golden: Golden, method: Any, image: Tensor, subset: str, name: str) -> dict[str, float]:
    """Difference of one subset's network; the authors' channels are edema, ncr, et, background."""
    logits = method.predict(image.transpose(2, 4), GLIOMA.available(subset.split("+"))[None]).logits
    return {subset: golden.difference(name, logits[:, [1, 0, 2, 3]].transpose(2, 4))}
