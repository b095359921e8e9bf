"""Record what the released code of CoNeS computes from deterministic weights.

    python tests/golden/record_cones.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The encoder and the
discriminators are narrower than the published ones, whose parameters are counted. Losses are those of the authors'
model class, on the CPU, with noise by name instead of from a generator.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from named_numbers import numbers, state_dict
from recorder import keep, shapes, write

REPOSITORY = "https://github.com/cyjdswx/CoNeS"
COMMIT = "ab59a9ac3c2c80af83abe711d0d9b4f961e826fe"
#: Sources in the order of the channels, and targets.
TASKS = (("t2", "t1c"), ("flair+t1", "t2"), ("t1+t2+flair", "t1c"))
#: (x, y) of the slices.
SIZE = (64, 80)
BLOCKS, WIDTH, JUDGE_WIDTH = [2, 1, 2, 1], 8, 8


def slices(code: str) -> torch.Tensor:
    """Two slices (2, 1, x, y) of one sequence within [-1, 1]."""
    return (80 * numbers(f"input.{code}", (2, 1, *SIZE)) / 3).clamp(-1, 1)


def noise(name: str) -> torch.Tensor:
    """Noise (2, 1, x, y)."""
    return numbers(f"noise.{name}", (2, 1, *SIZE)) * np.sqrt(np.prod(SIZE))


def load(authors: Path) -> Any:
    """The authors' modules without what only their scripts use."""
    sys.path.insert(0, str(authors))
    for name in ("cv2", "torchvision", "torchvision.models", "torchvision.transforms", "util", "util.util"):
        module = sys.modules.setdefault(name, types.ModuleType(name))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    from models import cones_model

    return cones_model


def options(sources: int, width: int) -> SimpleNamespace:
    """Options of the authors' script that training used."""
    return SimpleNamespace(
        label_nc=sources, output_nc=1, gpu_ids=[], hr_width=64, hr_depth=5, hr_coor="cosine", init_type="xavier",
        init_variance=0.02, ndf=width, ndf_max=8 * width, n_layers_D=4, num_D=2, netD_subarch="n_layer",
        netD="multiscale", norm_D="spectralinstance", no_ganFeat_loss=False, no_adv_loss=False, L1_loss=True,
        MSE_loss=False, latent_code_regularization=True,
    )  # fmt: skip


def filled(layout: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    """Numbers by name; codes and the field's biases are small, so that its last layer is not at its ends."""
    weights = state_dict({f"{prefix}.{key}": tuple(shape) for key, shape in layout.items()})
    named = {key.removeprefix(f"{prefix}."): value for key, value in weights.items()}
    share = {"latlayers.weight": 0.1, "latlayers.bias": 0.02}
    share |= {key: 0.02 for key in named if key.startswith("decoder.") and key.endswith("bias")}
    return {key: share.get(key, 1.0) * value for key, value in named.items()}


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Slices and losses of every task."""
    cones_model = load(authors)
    from models.networks import discriminator, generator
    from models.networks.loss import GANLoss

    published = [
        generator.ConesGenerator(options(1, 64)),
        discriminator.MultiscaleDiscriminator(options(1, 64)),
    ]
    encoder = generator.ConesEncoder
    generator.ConesEncoder = lambda num_in, block, num_blocks: encoder(num_in, block, BLOCKS, ndf=WIDTH)
    golden: dict[str, np.ndarray] = {}
    layout: dict[str, dict[str, list[int]]] = {}
    for given, target in TASKS:
        task, settings = f"{given}->{target}", options(len(given.split("+")), JUDGE_WIDTH)
        model = cones_model.ConesModel.__new__(cones_model.ConesModel)
        torch.nn.Module.__init__(model)
        model.opt, model.FloatTensor = settings, torch.FloatTensor
        model.netG, model.netD = generator.ConesGenerator(settings), discriminator.MultiscaleDiscriminator(settings)
        model.criterionGAN = GANLoss("hinge", tensor=torch.FloatTensor, opt=settings)
        model.criterionFeat = model.criterionL1 = torch.nn.L1Loss()
        for name, network in ((task, model.netG), (f"{task}.discriminator", model.netD)):
            layout[name] = shapes(network)
            network.load_state_dict(filled(layout[name], name))
        sources, real = torch.cat([slices(code) for code in given.split("+")], dim=1), slices(target)
        queue = [noise("fake"), noise("real")]
        # The class moves noise to a GPU by name.
        cones_model.torch = SimpleNamespace(
            **{name: getattr(torch, name) for name in ("cat", "mean", "no_grad", "nn")},
            randn=lambda _, queue=queue: queue.pop(0),
            device=lambda _: torch.device("cpu"),
        )
        model.train()
        with torch.no_grad():
            keep(golden, task, model.netG(sources)[0])
            losses, _ = model.compute_generator_loss(sources, real, True)
            losses |= model.compute_discriminator_loss(sources, real)
        golden |= {f"loss.{task}.{name}": np.array(float(value)) for name, value in losses.items()}
    golden["shapes"] = np.array(json.dumps(layout))
    return golden, {"published": sum(p.numel() for network in published for p in network.parameters())}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
