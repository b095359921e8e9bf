"""Record what the PyTorch port of RobustSeg computes from deterministic weights.

    python tests/golden/record_robust_seg.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The port runs on
windows of 80 voxels only.
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
#: Channel order of the port, in our codes.
ORDER = ("flair", "t1c", "t1", "t2")
SUBSETS = ("t1c", "t1+t2", "t1+t1c+t2+flair")
SIZE = 80
#: The port's content encoders drop voxels, also while predicting; here they do not.
DROPOUT = 0.0
#: What the case with losses is shown.
LOSS_SUBSET = "t1c+t2"


def mask(subset: str) -> torch.Tensor:
    """Row of a subset in the port's order."""
    return torch.tensor([[code in subset.split("+") for code in ORDER]])


def rebuilt(code: str) -> torch.Tensor:
    """What the image decoder of a modality is taken to give: the port's are built unlike the official ones."""
    return numbers(f"rebuilt.{code}", (1, 1, SIZE, SIZE, SIZE)) * SIZE**1.5


def losses(network: torch.nn.Module) -> dict[str, float]:
    """Terms of the port's training script, without their weights."""
    from utils import criterions

    image = images(ORDER, SIZE)
    made = network(image, mask(LOSS_SUBSET))
    onehot = F.one_hot(label(SIZE), 4).movedim(-1, 1)
    styles = [(made[f"mu_{code}"], torch.log(made[f"sigma_{code}"] ** 2)) for code in ORDER]
    errors = [(image[:, i : i + 1] - rebuilt(code)).abs().mean() for i, code in enumerate(ORDER)]
    return {
        "cross_entropy": float(criterions.softmax_weighted_loss(made["seg_pred"], onehot, num_cls=4)),
        "dice_plain": float(criterions.dice_loss(made["seg_pred"], onehot, num_cls=4)),
        "reconstruction": float(sum(errors)),
        "kl": float(sum(criterions.kl_loss(mean, log_variance) for mean, log_variance in styles)),
    }


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the port's network and losses."""
    sys.path.insert(0, str(authors / "RobustSeg"))
    torch.Tensor.cuda = lambda tensor, *arguments, **options: tensor
    import RobustSeg

    network = RobustSeg.RobustSeg(num_cls=4).eval()
    layout = shapes(network)
    network.load_state_dict(state_dict(layout))
    for part in network.modules():
        if hasattr(part, "drop_rate"):
            part.drop_rate = DROPOUT
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    caught: list[torch.Tensor] = []
    network.mask_de.seg_logit.register_forward_hook(lambda module, given, result: caught.append(result))
    image = images(ORDER, SIZE)
    with torch.no_grad():
        for subset in SUBSETS:
            network(image, mask(subset), is_training=False)
            keep(golden, subset, caught[-1])
        style = network.se_flair(image[:, :1])
        scale, shift = network.image_de_flair.mlp(style)
        golden |= {f"loss.{name}": np.array(value) for name, value in losses(network).items()}
    golden |= {"style": style.flatten().numpy(), "scale": scale.flatten().numpy(), "shift": shift.flatten().numpy()}
    norms = [p.numel() for name, p in network.image_de_flair.named_parameters() if "layer_norm" in name]
    return golden, modules(network) | {"image_de_flair.layer_norm": sum(norms)}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
