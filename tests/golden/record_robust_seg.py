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
from named_numbers import state_dict
from recorder import images, keep, modules, shapes, write

REPOSITORY = "https://github.com/AImageLab-zip/IM-Fuse"
COMMIT = "fbbd48eed03eb2aea3decb475d8918419d7d4c47"
#: Channel order of the port, in our codes.
ORDER = ("flair", "t1c", "t1", "t2")
SUBSETS = ("t1c", "t1+t2", "t1+t1c+t2+flair")
SIZE = 80
#: The port's content encoders drop voxels, also while predicting; here they do not.
DROPOUT = 0.0


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the port's network."""
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
            network(image, torch.tensor([[code in subset.split("+") for code in ORDER]]), is_training=False)
            keep(golden, subset, caught[-1])
        style = network.se_flair(image[:, :1])
        scale, shift = network.image_de_flair.mlp(style)
    golden |= {"style": style.flatten().numpy(), "scale": scale.flatten().numpy(), "shift": shift.flatten().numpy()}
    norms = [p.numel() for name, p in network.image_de_flair.named_parameters() if "layer_norm" in name]
    return golden, modules(network) | {"image_de_flair.layer_norm": sum(norms)}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
