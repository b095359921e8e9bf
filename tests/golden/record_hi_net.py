"""Record what the released code of Hi-Net computes from deterministic weights.

    python tests/golden/record_hi_net.py --authors PATH

PATH holds a working copy of the repository, of which ``model/syn_model.py`` is enough; nothing of it is kept but its
numbers and names. The generator has the width of their training script; slices are 64 x 64 instead of 128 x 128. Images
come from running statistics, losses from the batch's, as in training. The training script's losses are applied with
PyTorch's own criteria, before its weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers
from recorder import keep, shapes, write
from torch import nn

REPOSITORY = "https://github.com/taozh2017/HiNet"
COMMIT = "8bee4856951fb657dfb7bf0d702b8235890f3527"
#: The second task of the training script.
SOURCES, TARGET = ("t1", "t2"), "flair"
SIZE, WIDTH = 64, 32


def slices(code: str) -> torch.Tensor:
    """Two slices (2, 1, x, y) of one sequence within [-1, 1]."""
    return (SIZE * numbers(f"input.{code}", (2, 1, SIZE, SIZE)) / 3).clamp(-1, 1)


def filled(layout: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    """Numbers by name; scales are about 1, shifts and means small, variances positive."""
    weights = {}
    for name, shape in layout.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
            continue
        value = numbers(f"{prefix}.{name}", tuple(shape))
        if name.endswith("running_var"):
            value = 0.5 + value.abs()
        elif len(shape) == 1:
            value = 0.1 * value + (1.0 if name.endswith("weight") else 0.0)
        else:
            value = 1.6 * value  # or nothing much is left after so many rectifiers
        weights[name] = value
    return weights


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' generator and discriminator."""
    sys.path.insert(0, str(authors / "model"))
    import syn_model

    networks = {"generator": syn_model.Multi_modal_generator(1, 1, WIDTH), "discriminator": syn_model.Discriminator()}
    layout = {name: shapes(network) for name, network in networks.items()}
    for name, network in networks.items():
        network.load_state_dict(filled(layout[name], name))
    generator, discriminator = networks.values()
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    sources, target = [slices(code) for code in SOURCES], slices(TARGET)
    with torch.no_grad():
        generator.eval()
        for name, image in zip((TARGET, *SOURCES), generator(torch.cat(sources, dim=1)), strict=True):
            keep(golden, name, image)
        golden["score"] = discriminator.eval()(target).flatten().numpy()
        generator.train()
        discriminator.train()
        made, *again = generator(torch.cat(sources, dim=1))
        squared, absolute = nn.MSELoss(), nn.L1Loss()
        fake, real = discriminator(made), discriminator(target)
        losses = {
            "gan": squared(fake, torch.ones_like(fake)),
            "l1": absolute(made, target),
            "reconstruction_t1": absolute(again[0], sources[0]),
            "reconstruction_t2": absolute(again[1], sources[1]),
            "real": squared(real, torch.ones_like(real)),
            "fake": squared(fake, torch.zeros_like(fake)),
        }
    golden |= {f"loss.{name}": np.array(value.item()) for name, value in losses.items()}
    return golden, {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
