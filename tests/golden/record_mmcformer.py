"""Record what the authors' MMCFormer computes from deterministic weights.

    python tests/golden/record_mmcformer.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The network is built for
windows of 16 x 32 x 48 voxels (z, x, y) instead of 128 x 160 x 192: a size at which its padding acts alike.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers, state_dict
from recorder import keep, label, shapes, write
from torch.nn import functional as F

REPOSITORY = "https://github.com/xmindflow/MMCFormer"
COMMIT = "7c76d3a39e2561133f9d11b278b92c4dbc549b67"
#: Channel order with this missing path, in our codes: what is available comes first.
ORDER = ("flair", "t1c", "t1", "t2")
SUBSET = "t1c+flair"
SIZE = (16, 32, 48)
#: Epoch of the losses: the consistency's weight is at its height.
EPOCH = 125


def window() -> torch.Tensor:
    """Images of shape (1, 4, z, x, y)."""
    return torch.cat([numbers(f"input.{code}", (1, 1, *SIZE)) * float(np.prod(SIZE)) ** 0.5 for code in ORDER], dim=1)


def truth() -> torch.Tensor:
    """Label map of shape (1, z, x, y)."""
    return label(48)[:, 8:24, 4:36, :]


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' networks and losses."""
    sys.path.insert(0, str(authors))
    stub = types.ModuleType("timm.models.layers")  # all they take of it is one initialisation
    stub.trunc_normal_ = torch.nn.init.trunc_normal_
    sys.modules |= {"timm": types.ModuleType("timm"), "timm.models": types.ModuleType("models"), stub.__name__: stub}
    import losses
    from model import MMCFormer

    golden: dict[str, np.ndarray] = {}
    layout, seen, counts = {}, {}, {}
    image = window()
    for name, mode, channels in (("model_full", "full", 4), ("model_missing", "missing", 2)):
        network = MMCFormer(mode, img_size=list(SIZE), num_classes=4, in_chans=channels).eval()
        for module, cells in (("decoder_2", 16), ("decoder_1", 8), ("decoder_0", 4)):
            getattr(network, module).layer_up.input_resolution = tuple(n // cells for n in SIZE)
        layout[name] = shapes(network)
        filled = state_dict({f"{name}.{key}": shape for key, shape in layout[name].items()})
        network.load_state_dict({key.removeprefix(f"{name}."): value for key, value in filled.items()})
        caught = []
        network.decoder_0.last_layer.register_forward_hook(lambda module, given, result, to=caught: to.append(result))
        with torch.no_grad():
            seen[name] = network(image[:, :channels])
        keep(golden, name, caught[-1])
        called = [key for key in layout[name] if not key.startswith(("decoder_2.concat", "decoder_2.layer_former"))]
        counts[name] = sum(int(np.prod(layout[name][key])) for key in called)
    (p_full, g_full, t_full, rebuilt), (p_missing, g_missing, t_missing, _) = seen.values()
    target = torch.stack([(truth() == value).float() for value in (2, 1, 3)], dim=1)
    dice_full, dice_missing, consistency = losses.unet_Co_loss(p_full, p_missing, target, EPOCH)
    weights, same = (0.2, 0.3, 0.4, 0.5), torch.tensor([1])
    agreement = sum(
        weight * float(F.cosine_embedding_loss(f.reshape(1, -1), m.reshape(1, -1), same))
        for weight, f, m in zip(weights, g_full, g_missing, strict=True)
    )
    values = {
        "dice_full": float(dice_full),
        "dice_missing": float(dice_missing),
        "consistency": float(consistency),
        "msca": agreement,
        "msp": float(F.l1_loss(t_full, t_missing)),
        "reconstruction": float(F.l1_loss(rebuilt, image)),
    }
    golden |= {f"loss.{name}": np.array(value) for name, value in values.items()}
    golden["shapes"] = np.array(json.dumps(layout))
    return golden, counts


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
