"""Record what the PyTorch port of U-HVED computes from deterministic weights.

    python tests/golden/record_u_hved.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names.
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
#: Channel order of the port's masks, in our codes and in its names.
ORDER = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "Flair"}
SUBSETS = ("t1c", "flair", "t1+t2", "t1+t1c+flair", "t1+t1c+t2+flair")
SIZE = 32


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the port's network; latents are the posterior's mean."""
    sys.path.insert(0, str(authors / "UHVED"))
    import UHVED

    network = UHVED.U_HVED(num_classes=4).eval()
    layout = shapes(network)
    network.load_state_dict(state_dict(layout))
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    image = images(ORDER, SIZE)
    named = {name: image[:, i : i + 1] for i, name in enumerate(ORDER.values())}
    latent: list[list[torch.Tensor]] = []
    network.seg_decoder.register_forward_hook(lambda module, given, result: latent.append(given[0]))
    with torch.no_grad():
        for subset in SUBSETS:
            mask = torch.tensor([[code in subset.split("+") for code in ORDER]])
            keep(golden, subset, network(named, mask, is_inference=True))
        keep(golden, "image.flair", network.flair_decoder(latent[0]))
    return golden, modules(network)


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
