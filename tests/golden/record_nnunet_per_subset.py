"""Record what the network of nnU-Net v2 computes from deterministic weights, and the topologies it plans.

    python tests/golden/record_nnunet_per_subset.py --authors PATH

PATH holds a working copy of dynamic-network-architectures; ``nnUNet`` beside it one of nnU-Net. Nothing of them is kept
but their numbers and names.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import state_dict
from recorder import images, keep, modules, shapes, write
from torch import nn

REPOSITORY = "https://github.com/MIC-DKFZ/dynamic-network-architectures"
COMMIT = "d35f85c7b92cbf3e9443b412fdc7c81f8e2e7b12"
SIZE = 64
ORDER = ("t1", "t1c", "t2", "flair")
#: Spacing (mm) and window of the topologies: BraTS; thick slices; abdomen; prostate; small.
PLANNED = (
    ((1.0, 1.0, 1.0), (128, 128, 128)),
    ((5.0, 0.8, 0.8), (20, 320, 256)),
    ((3.0, 0.8, 0.8), (48, 192, 192)),
    ((1.0, 0.7, 1.0), (96, 160, 112)),
    ((2.0, 2.0, 2.0), (48, 48, 48)),
    ((1.0, 2.1, 1.0), (40, 24, 33)),
)


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the network and the planner."""
    sys.path.insert(0, str(authors))
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    widths = (32, 64, 128, 256, 320, 320)
    network = PlainConvUNet(
        4, 6, widths, nn.Conv3d, 3, (1, 2, 2, 2, 2, 2), 2, 3, 2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    ).eval()  # fmt: skip
    # Names that are second names of the same weights are left out.
    layout = {
        k: v for k, v in shapes(network).items() if "all_modules" not in k and not k.startswith("decoder.encoder.")
    }
    filled = state_dict({f"network.{name}": shape for name, shape in layout.items()})
    network.load_state_dict({name.removeprefix("network."): value for name, value in filled.items()}, strict=False)
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps({"network": layout}))}
    with torch.no_grad():
        for level, logits in enumerate(network(images(ORDER, SIZE))[:2]):
            keep(golden, f"level{level}", logits)
    planner = authors.parent / "nnUNet/nnunetv2/experiment_planning/experiment_planners/network_topology.py"
    specification = importlib.util.spec_from_file_location("network_topology", planner)
    topology = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(topology)
    plans = []
    for spacing, window in PLANNED:
        _, strides, kernels, patch, _ = topology.get_pool_and_conv_props(spacing, window, 4, 999999)
        plans.append([strides, kernels, [int(n) for n in patch]])
    golden["plans"] = np.array(json.dumps(plans))
    counts = modules(network)
    counts["decoder"] -= counts["encoder"]
    return golden, counts


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
