"""Record what the released code of WFM computes from deterministic weights.

    python tests/golden/record_wfm.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The U-Net has fewer and
narrower resolutions than the published one, whose parameters are counted without memory for them. Needs PyWavelets.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from named_numbers import numbers, state_dict
from recorder import keep, shapes, write

REPOSITORY = "https://github.com/yalcintur/WFM"
COMMIT = "e01ab1c193eec2264a01fd3211c16fe931b701e8"
#: The authors' names of the sequences, in their order, and ours.
NAMES = {"t1n": "t1", "t1c": "t1c", "t2w": "t2", "t2f": "flair"}
#: (x, y, z) of the images.
SIZE = (16, 24, 16)
WIDTH, MULTIPLIERS, BLOCKS, GROUPS = 32, (1, 2, 2), 2, 32
#: Time of the recorded velocity and loss, in thousandths.
TIME = 300


def images() -> dict[str, torch.Tensor]:
    """Images (1, 1, x, y, z) within [0, 1] by our names."""
    return {code: numbers(f"input.{code}", (1, 1, *SIZE)).mul(60).abs().clamp(0, 1) for code in NAMES.values()}


def noise() -> torch.Tensor:
    """Noise (1, 1, x, y, z)."""
    return numbers("noise", (1, 1, *SIZE)) * np.sqrt(np.prod(SIZE))


def build(unet: Any, in_channels: int, classes: int | None, published: bool = False) -> Any:
    """The authors' U-Net as their scripts make it, at the recorded or the published size."""
    return unet.UNetModel(
        image_size=224,
        in_channels=in_channels,
        model_channels=64 if published else WIDTH,
        out_channels=8,
        num_res_blocks=BLOCKS,
        attention_resolutions=(),
        channel_mult=(1, 2, 2, 4, 4) if published else MULTIPLIERS,
        dims=3,
        num_classes=classes,
        resblock_updown=True,
        num_groups=GROUPS,
        bottleneck_attention=False,
        resample_2d=False,
    )


def load_unet(authors: Path) -> Any:
    """The module of the authors' networks."""
    sys.path.insert(0, str(authors))
    from guided_diffusion import unet

    return unet


def filled(network: torch.nn.Module) -> Any:
    """The network in evaluation mode with numbers by name, on the CPU as its forward pass wants to be told."""
    weights = state_dict({f"network.{key}": tuple(shape) for key, shape in shapes(network).items()})
    network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()})
    network.to("cpu")
    return network.eval()


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Samples and loss of every target."""
    unet = load_unet(authors)
    sys.modules.setdefault("tqdm.auto", types.ModuleType("tqdm.auto"))
    from guided_diffusion import wfm

    network = filled(build(unet, 32, 4))
    with torch.device("meta"):
        published = build(unet, 32, 4, published=True)
    flow = wfm.WaveletFlowMatching()
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps({"network": shapes(network)}))}
    theirs = {name: images()[code] for name, code in NAMES.items()}
    with torch.no_grad():
        for number, (name, code) in enumerate(NAMES.items()):
            bands = [wfm.apply_dwt(theirs[other]) for other in NAMES if other != name]
            conditions, start, label = torch.cat(bands, dim=1), sum(bands) / 3, torch.tensor([number])
            for sampler, steps, solver in (("end", 1, "direct"), ("euler", 3, "euler"), ("heun", 2, "heun")):
                made = flow.p_sample_loop(
                    network, start.shape, conditions, start, label, steps, progress=False, solver=solver
                )  # fmt: skip
                keep(golden, f"{code}.{sampler}", wfm.apply_idwt(made).clamp(0, 1))
            terms, _, _ = flow.training_losses(network, theirs, torch.tensor([TIME]), noise=noise(), contr=name)
            golden[f"loss.{code}.velocity"] = np.array(terms["mse_wav"].mean().item())
    return golden, {"published": sum(p.numel() for p in published.parameters())}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
