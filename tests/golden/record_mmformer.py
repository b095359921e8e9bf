"""Record what the authors' mmFormer computes from deterministic weights.

    python tests/golden/record_mmformer.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The position tables are
built for a grid of 2 x 2 x 2 tokens instead of 8 x 8 x 8, so that a window has 32 voxels a side instead of 128.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import state_dict
from recorder import images, keep, label, modules, shapes, write
from torch.nn import functional as F

REPOSITORY = "https://github.com/YaoZhang93/mmFormer"
COMMIT = "b18663adbfd0323656083e0470420c8c715c1782"
#: Channel order of the authors' data, in our codes.
ORDER = ("flair", "t1c", "t1", "t2")
SUBSETS = ("t1c", "flair", "t1+t2", "t1+t1c+flair", "t1+t1c+t2+flair")
SIZE = 32
#: What the two rows of the batch with losses are shown.
LOSS_SUBSETS = ("t1c+t2", "t1+t1c+t2+flair")


def mask(subset: str) -> torch.Tensor:
    """Row of a subset in the authors' channel order."""
    return torch.tensor([[code in subset.split("+") for code in ORDER]])


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' network and losses."""
    sys.path.insert(0, str(authors / "mmformer"))
    import mmformer
    from utils import criterions

    mmformer.patch_size = SIZE // 16
    network = mmformer.Model(num_cls=4).eval()
    layout = shapes(network)
    filled = state_dict({f"network.{name}": shape for name, shape in layout.items()})
    network.load_state_dict({name.removeprefix("network."): value for name, value in filled.items()})
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps({"network": layout}))}
    caught = []
    network.decoder_fuse.seg_layer.register_forward_hook(lambda module, given, result: caught.append(result))
    with torch.no_grad():
        for subset in SUBSETS:
            network(images(ORDER, SIZE), mask(subset))
            keep(golden, subset, caught[-1])
        network.is_training = True
        rows = torch.cat([mask(subset) for subset in LOSS_SUBSETS])
        fused, alone, coarse = network(images(ORDER, SIZE, rows=2), rows)
        onehot = F.one_hot(label(SIZE, rows=2), 4).movedim(-1, 1)
        for name, predictions in (("fusion", [fused]), ("separate", alone), ("coarse", coarse)):
            for loss, function in (("cross_entropy", criterions.softmax_weighted_loss), ("dice", criterions.dice_loss)):
                golden[f"loss.{name}_{loss}"] = np.array(
                    sum(float(function(p, onehot, num_cls=4)) for p in predictions)
                )
    return golden, modules(network)


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
