"""Record what the released code of ResViT computes from deterministic weights.

    python tests/golden/record_resvit.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The published sizes, on
slices of 64 x 64 instead of 256 x 256: only the tables of positions differ. As in the released test script, batch norms
are in training mode and see one slice at a time; dropout, on there too, is off. The training script's losses are
applied as it writes them, with the repository's own criterion.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers
from recorder import keep, shapes, write
from torch import nn

REPOSITORY = "https://github.com/icon-lab/ResViT"
COMMIT = "f03973323eed15b488272e792806b65e60951413"
SOURCES, TARGET = ("t1",), "t2"
SIZE = 64
L1_WEIGHT = 100.0


def slices(code: str) -> torch.Tensor:
    """Four slices (4, 1, SIZE, SIZE) of one sequence within [-1, 1]."""
    return (SIZE * numbers(f"input.{code}", (4, 1, SIZE, SIZE)) / 3).clamp(-1, 1)


def filled(layout: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    """Numbers by name; variances are positive, and the transformer is the same wherever it is listed."""
    weights = {}
    for name, shape in layout.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(0)
        elif ".transformer." not in name:
            weights[name] = numbers(f"{prefix}.{name}", tuple(shape))
            if name.endswith("running_var"):
                weights[name] = 0.5 + weights[name].abs()
    return weights


def one_by_one(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What a network makes of slices that come alone, its batch norms in training mode."""
    network.eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
    return torch.cat([network(image) for image in images.split(1)])


class _Settings(dict):
    """What the authors' code needs of its settings library: entries as attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' generator, with and without transformers, and discriminator."""
    sys.path.insert(0, str(authors))
    sys.modules["ml_collections"] = types.SimpleNamespace(ConfigDict=_Settings)  # type: ignore[assignment]
    package = types.ModuleType("models")  # without the code that loads training models
    package.__path__ = [str(authors / "models")]  # type: ignore[attr-defined]
    sys.modules["models"] = package
    from models import networks, residual_transformers

    counted = residual_transformers.CONFIGS["Res-ViT-B_16"]
    with torch.device("meta"):
        parts = {
            "generator": residual_transformers.ResViT(counted, input_dim=1, img_size=256, output_dim=1),
            "generator_two_sources": residual_transformers.ResViT(counted, input_dim=2, img_size=256, output_dim=1),
            "convolutional": residual_transformers.Res_CNN(counted, input_dim=1, img_size=256, output_dim=1),
        }
    small = residual_transformers.configs.get_resvit_b16_config()
    small.patches["grid"] = (SIZE // 16, SIZE // 16)
    generator = residual_transformers.ResViT(small, input_dim=1, img_size=SIZE, output_dim=1)
    plain = residual_transformers.Res_CNN(small, input_dim=1, img_size=SIZE, output_dim=1)
    norm = functools.partial(nn.BatchNorm2d, affine=True)
    discriminator = networks.NLayerDiscriminator(2, 64, n_layers=3, norm_layer=norm)
    parts["discriminator"] = discriminator
    layout = {"generator": shapes(generator), "discriminator": shapes(discriminator)}
    weights = filled(layout["generator"], "generator")
    generator.load_state_dict(weights, strict=False)
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    discriminator.load_state_dict(filled(layout["discriminator"], "discriminator"))
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    source, target = slices(SOURCES[0]), slices(TARGET)
    criterion, absolute = networks.GANLoss(use_lsgan=True), nn.L1Loss()
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        made = one_by_one(generator, source)
        keep(golden, "resvit", made)
        keep(golden, "convolutional", one_by_one(plain, source))
        fake, real = (one_by_one(discriminator, torch.cat([source, image], 1)) for image in (made, target))
        golden["score"] = fake.flatten().numpy()
        losses = {
            "fake": criterion(fake, False),
            "real": criterion(real, True),
            "gan": criterion(fake, True),
            "l1": absolute(made, target) * L1_WEIGHT,
        }
    golden |= {f"loss.{name}": np.array(value.item()) for name, value in losses.items()}
    return golden, {name: sum(p.numel() for p in network.parameters()) for name, network in parts.items()}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
