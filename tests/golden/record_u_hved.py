"""Record what the PyTorch port of U-HVED computes from deterministic weights.

    python tests/golden/record_u_hved.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers, state_dict
from recorder import images, keep, label, modules, shapes, write
from torch.nn import functional as F

REPOSITORY = "https://github.com/AImageLab-zip/IM-Fuse"
COMMIT = "fbbd48eed03eb2aea3decb475d8918419d7d4c47"
#: Channel order of the port's masks, in our codes and in its names.
ORDER = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "Flair"}
SUBSETS = ("t1c", "flair", "t1+t2", "t1+t1c+flair", "t1+t1c+t2+flair")
SIZE = 32
#: What the two rows of the batch with losses are shown.
LOSS_SUBSETS = ("t1c+t2", "t1+t1c+t2+flair")
#: Factor of the logits there: the port's cross-entropy lets no probability count as less than 0.005.
SOFTER = 0.1


def mask(*subsets: str) -> torch.Tensor:
    """Rows of subsets in the port's order."""
    return torch.tensor([[code in subset.split("+") for code in ORDER] for subset in subsets])


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    """What a level's latent is sampled with; levels differ in their channels."""
    return numbers(f"noise.{shape[1]}", tuple(shape)) * float(np.prod(shape[1:])) ** 0.5


def losses(network: torch.nn.Module) -> dict[str, float]:
    """Terms of the port's training script, without their weights."""
    from utils import criterions

    image = images(ORDER, SIZE, rows=2)
    shown = mask(*LOSS_SUBSETS)
    network.seg_decoder.conv_out.weight *= SOFTER
    torch.randn = lambda shape, **options: noise(shape)
    made, gaussians = network({name: image[:, i : i + 1] for i, name in enumerate(ORDER.values())}, shown)
    onehot = F.one_hot(label(SIZE, rows=2), 4).movedim(-1, 1)
    rebuilt = torch.cat([made[name] for name in ORDER.values()], dim=1)
    divergences = [criterions.compute_KLD(level["mu"], level["logvar"], shown) for level in gaussians]
    to_subsets, to_prior = (sum(map(float, terms)) / len(divergences) for terms in zip(*divergences, strict=True))
    return {
        "cross_entropy": float(criterions.softmax_loss(made["seg"], onehot, num_cls=4)),
        "dice_plain": float(criterions.dice_loss(made["seg"], onehot, num_cls=4)),
        "reconstruction": float(((rebuilt - image) ** 2).mean()),
        "kl_to_subsets": to_subsets,
        "kl_to_prior": to_prior,
    }


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the port's network, with the posterior's mean as latents, and its losses, with samples."""
    sys.path.insert(0, str(authors / "UHVED"))
    import UHVED

    network = UHVED.U_HVED(num_classes=4).eval()
    layout = shapes(network)
    network.load_state_dict(state_dict(layout))
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    image = images(ORDER, SIZE)
    named = {name: image[:, i : i + 1] for i, name in enumerate(ORDER.values())}
    latent: list[list[torch.Tensor]] = []
    network.seg_decoder.register_forward_hook(lambda module, given, result: latent.append(given[0]))
    with torch.no_grad():
        for subset in SUBSETS:
            keep(golden, subset, network(named, mask(subset), is_inference=True))
        keep(golden, "image.flair", network.flair_decoder(latent[0]))
        golden |= {f"loss.{name}": np.array(value) for name, value in losses(network).items()}
    return golden, modules(network)


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
