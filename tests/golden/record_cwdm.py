"""Record what the released code of cWDM computes from deterministic weights.

    python tests/golden/record_cwdm.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The U-Net has fewer and
narrower resolutions than the published one, whose parameters are counted without memory for them; noise comes by name
instead of from a generator. Needs PyWavelets.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers
from record_wfm import NAMES, SIZE, build, filled, images, load_unet, noise
from recorder import keep, shapes, write

REPOSITORY = "https://github.com/pfriedri/cwdm"
COMMIT = "1e4a1e57eec3a5d0f1375c4cde4d38b837c0fce0"
TARGETS = ("t1", "t2", "flair")
#: Time of the single step and of the loss, and times of the respaced sampler.
TIME = 600
TIMES = (0, 333, 666, 999)


def bands_of_noise(name: str) -> torch.Tensor:
    """Noise (1, 8, x/2, y/2, z/2) in the authors' order of bands."""
    shape = (1, 8, *(length // 2 for length in SIZE))
    return numbers(f"noise.{name}", shape) * np.sqrt(np.prod(shape))


def load_diffusion(authors: Path) -> types.ModuleType:
    """The authors' modules without what only their training loop imports."""
    for name in ("torchvision", "torchvision.utils", "torchvision.transforms", "matplotlib", "matplotlib.pyplot"):
        module = sys.modules.setdefault(name, types.ModuleType(name))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    sys.modules["torchvision.utils"].save_image = None
    trainer = types.ModuleType("guided_diffusion.train_util")
    trainer.visualize = None
    sys.modules["guided_diffusion.train_util"] = trainer
    from guided_diffusion import respace

    return respace


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """One step and a respaced sampler for three targets, and the loss."""
    unet = load_unet(authors)
    respace = load_diffusion(authors)
    from guided_diffusion import gaussian_diffusion

    network = filled(build(unet, 32, None))
    with torch.device("meta"):
        published = build(unet, 32, None, published=True)
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps({"network": shapes(network)}))}

    def diffusion(times):
        return respace.SpacedDiffusion(
            use_timesteps=set(times),
            betas=gaussian_diffusion.get_named_beta_schedule("linear", 1000),
            model_mean_type=gaussian_diffusion.ModelMeanType.START_X,
            model_var_type=gaussian_diffusion.ModelVarType.FIXED_LARGE,
            loss_type=gaussian_diffusion.LossType.MSE,
            mode="i2i",
        )

    theirs = {name: images()[code] for name, code in NAMES.items()}
    queue: list[torch.Tensor] = []
    gaussian_diffusion.th.randn_like = lambda _: queue.pop(0)
    whole, spaced = diffusion(range(1000)), diffusion(TIMES)
    with torch.no_grad():
        for name, code in NAMES.items():
            if code not in TARGETS:
                continue
            bands = [gaussian_diffusion.dwt(theirs[other]) for other in NAMES if other != name]
            conditions = torch.cat([torch.cat([part[0] / 3, *part[1:]], dim=1) for part in bands], dim=1)
            state = bands_of_noise("start")
            queue.append(bands_of_noise(f"step{TIME}"))
            step = whole.p_sample(network, state, torch.tensor([TIME]), cond=conditions)
            keep(golden, f"{code}.step", step["sample"])
            for place in reversed(range(len(TIMES))):
                queue.append(bands_of_noise(f"step{TIMES[place]}"))
                state = spaced.p_sample(network, state, torch.tensor([place]), cond=conditions)["sample"]
            low, *high = state.split(1, dim=1)
            keep(golden, f"{code}.sampled", gaussian_diffusion.idwt(3 * low, *high).clamp(0, 1))
            queue.append(noise())
            terms, _, _ = whole.training_losses(
                network, theirs, torch.tensor([TIME]), mode="i2i", contr=name, model_kwargs={}
            )
            golden[f"loss.{code}.mse"] = np.array(terms["mse_wav"].mean().item())
    return golden, {"published": sum(p.numel() for p in published.parameters())}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
