"""Record what the authors' SMU-Net computes from deterministic weights.

    python tests/golden/record_smu_net.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import state_dict
from recorder import images, keep, label, modules, shapes, write
from torch.nn import functional as F

REPOSITORY = "https://github.com/rezazad68/smunet"
COMMIT = "251f3adf7276606e5190aa1feb77bffa0b3bb791"
#: Channel order of the authors' data with this missing path, in our codes: what is available comes first.
ORDER = ("flair", "t1c", "t1", "t2")
SUBSETS = ("flair+t1c",)
SIZE = 32
#: Size of the style maps that the discriminator was built for, (x, y, z).
STYLE_SIZE = (20, 24, 16)
#: Epoch of the losses: the consistency's weight is at its height.
EPOCH = 125


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' networks and losses."""
    sys.path.insert(0, str(authors))
    for plotting in ("cv2", "matplotlib", "matplotlib.cm", "matplotlib.pyplot"):
        sys.modules[plotting] = types.ModuleType(plotting)  # imported by their losses, and not used there
    sys.modules["matplotlib"].cm = sys.modules["matplotlib.cm"]
    import losses
    from models import discriminator, unet

    def fill(network: torch.nn.Module, prefix: str) -> torch.nn.Module:
        weights = state_dict({f"{prefix}.{name}": shape for name, shape in shapes(network).items()})
        network.load_state_dict({name.removeprefix(f"{prefix}."): value for name, value in weights.items()})
        layout[prefix] = shapes(network)
        return network.eval()

    layout: dict[str, dict[str, list[int]]] = {}
    golden: dict[str, np.ndarray] = {}
    caught: list[torch.Tensor] = []
    image = images(ORDER, SIZE)
    paths, counts = {}, {}
    for name, channels in (("model_full", 4), ("model_missing", 2)):
        network = fill(unet.Unet_module((SIZE,) * 3, in_channels=channels, out_channels=4, init_channels=16), name)
        network.unet.up1conv.register_forward_hook(lambda module, given, result: caught.append(result))
        with torch.no_grad():
            paths[name] = network(image[:, :channels])
        keep(golden, name, caught[-1])
        counts |= {name: sum(modules(network).values())}
    judge = fill(discriminator.get_style_discriminator(128), "d_style")
    counts["d_style"] = sum(p.numel() for p in judge.parameters())
    target = torch.stack([(label(SIZE) == value).float() for value in (2, 1, 3)], dim=1)
    (p_full, s_full, c_full), (p_missing, s_missing, c_missing) = paths.values()
    co = losses.unet_Co_loss(
        {"weight_content": 0.2, "weight_mispath": 0.6},
        p_full, c_full, target, p_missing, c_missing, s_full, s_missing, EPOCH,
    )  # fmt: skip
    style = torch.cat([images(("style",), 32)[0, 0, :20, :24, :16][None, None] * scale for scale in range(1, 129)], 1)
    with torch.no_grad():
        golden["score"] = judge(style).numpy()
        score = float(F.binary_cross_entropy_with_logits(judge(style), torch.zeros(1, 1, 1, 1, 1)))
    values = {
        "dice_full": float(co["loss_dc"]),
        "dice_missing": float(co["loss_miss_dc"]),
        "consistency": float(co["consistency_loss"]),
        "content": float(co["content_loss"]),
        "style": float(losses.get_style_loss(s_full, s_missing)),
        "co_training": float(co["loss_Co"]),
        "style_score": score,
    }
    golden |= {f"loss.{name}": np.array(value) for name, value in values.items()}
    golden["shapes"] = np.array(json.dumps(layout))
    return golden, counts


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
