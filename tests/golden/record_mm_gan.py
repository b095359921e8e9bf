"""Record what the released code of MM-GAN computes from deterministic weights.

    python tests/golden/record_mm_gan.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The training script has
its losses inline: their criteria are applied here to what the authors' networks give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers, state_dict
from recorder import keep, shapes, write
from torch import nn

REPOSITORY = "https://github.com/trane293/mm-gan"
COMMIT = "0fe69c707e6f4918a628490fb7ff56403398d38b"
#: Channel order of the released code, in our codes.
ORDER = ("t1", "t2", "t1c", "flair")
SUBSETS = ("t1c", "t1+flair", "t1c+t2+flair")
SIZE = 256


def slices() -> torch.Tensor:
    """Two slices (2, 4, x, y) of positive noise, in the authors' order."""
    return torch.cat([SIZE * numbers(f"input.{code}", (2, 1, SIZE, SIZE)).abs() for code in ORDER], dim=1)


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' generator and discriminator."""
    sys.path.insert(0, str(authors / "modules" / "advanced_gans"))
    import models

    networks = {
        "generator": models.GeneratorUNet(in_channels=4, out_channels=4, with_relu=True).eval(),
        "discriminator": models.Discriminator(in_channels=4, dataset="BRATS2018").eval(),
    }
    layout = {name: shapes(network) for name, network in networks.items()}
    for name, network in networks.items():
        filled = state_dict({f"{name}.{key}": shape for key, shape in layout[name].items()})
        network.load_state_dict({key.removeprefix(f"{name}."): value for key, value in filled.items()})
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    real, squared, absolute = slices(), nn.MSELoss(), nn.L1Loss()
    with torch.no_grad():
        for subset in SUBSETS:
            shown = [code in subset.split("+") for code in ORDER]
            seen = real.clone()
            seen[:, [not there for there in shown]] = 0
            made = networks["generator"](seen)
            keep(golden, subset, made[:, [not there for there in shown]])
            completed = made.clone()
            completed[:, shown] = real[:, shown]
            score = networks["discriminator"](completed, real)
            golden[f"{subset}.score"] = score.flatten().numpy()
            label = torch.ones_like(score)
            label[:, [not there for there in shown]] = 0
            missing = [absolute(made[:, m], real[:, m]) for m, there in enumerate(shown) if not there]
            losses = {
                "gan": squared(score, torch.ones_like(score)),
                "l1": sum(missing) / len(missing),
                "fake": squared(score, label),
                "real": squared(networks["discriminator"](real, real), torch.ones_like(score)),
            }
            golden |= {f"loss.{subset}.{name}": np.array(value.item()) for name, value in losses.items()}
    return golden, {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
