"""Record what the authors' M3AE computes from deterministic weights.

    python tests/golden/record_m3ae.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. The learned image is built
smaller than 155 x 240 x 240.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import state_dict
from recorder import images, keep, label, modules, shapes, write
from torch import nn

REPOSITORY = "https://github.com/ccarliu/m3ae"
COMMIT = "fdb280034b7c52f3942efc6b11568e25ae2c5c11"
#: Channel order of the authors' data, in our codes.
ORDER = ("t1", "t1c", "t2", "flair")
SUBSETS = ("flair", "t1c+t2", "t1+t1c+t2+flair")
SIZE = 32
#: Shape of the learned image and the window's first voxel in it.
IMAGE_SHAPE, ORIGIN = (40, 48, 44), (3, 9, 5)
#: Last layer of pre-training, dropped before fine-tuning.
LAST = {"up1conv.weight": (4, 16, 1, 1, 1), "up1conv.bias": (4,)}
#: What pre-training adds to each modality's learned image: its distance from its own mean must not see it.
OFFSETS = (0.0, 0.2, 0.4, 0.6)
#: What the two views of one case are shown.
VIEWS = ("t1c+t2", "t1+flair")


def patches() -> torch.Tensor:
    """Patches of 16 voxels that pre-training shows, shape (1, 4, 2, 2, 2): an eighth of them."""
    shown = torch.zeros(4, 2, 2, 2, dtype=torch.bool)
    for modality, *place in ((0, 0, 1, 0), (1, 1, 1, 1), (3, 0, 0, 1), (3, 1, 0, 0)):
        shown[(modality, *place)] = True
    return shown[None]


def pretraining(
    filled: dict[str, torch.Tensor], image: torch.Tensor, window: list[tuple[int, int]]
) -> dict[str, float]:
    """Terms of pre-training, whose last layer gives four images."""
    from model import Unet

    network = Unet.Unet_missing((SIZE,) * 3, in_channels=4, pre_train=True, mdp=3, patch_shape=SIZE)
    network.limage = nn.Parameter(torch.zeros(1, 4, *IMAGE_SHAPE))
    last = {f"unet.{name}": value for name, value in state_dict(LAST).items()}
    kept = {name: value for name, value in filled.items() if "ds_out" not in name}
    network.load_state_dict(kept | last)
    network.limage += torch.tensor(OFFSETS)[:, None, None, None]
    mask = patches().float()
    for axis in (2, 3, 4):
        mask = mask.repeat_interleave(16, dim=axis)
    Unet.MaskEmbeeding2 = lambda *arguments, **options: mask
    rebuilt = network.train()(image, [([first], [last]) for first, last in window])[0]
    learned = network.limage
    return {
        "reconstruction": float(((image - rebuilt) ** 2).mean()),
        "learned_image": float(torch.norm(learned - learned.mean((2, 3, 4), keepdim=True), 2)),
    }


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' network and losses."""
    sys.path.insert(0, str(authors))
    from loss.dice import EDiceLoss
    from model.Unet import Unet_missing

    network = Unet_missing((SIZE,) * 3, in_channels=4, out_channels=3, mdp=3, deep_supervised=True, patch_shape=SIZE)
    network.limage = nn.Parameter(torch.zeros(1, 4, *IMAGE_SHAPE))
    layout = shapes(network)
    filled = state_dict({f"network.{name}": shape for name, shape in layout.items()})
    network.load_state_dict({name.removeprefix("network."): value for name, value in filled.items()})
    network.limage.data *= 100.0  # fan-in counts its voxels
    network.eval()
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps({"network": layout}))}
    window = [(start, start + SIZE) for start in ORIGIN]
    image = images(ORDER, SIZE)
    with torch.no_grad():
        for subset in SUBSETS:
            network.mask_modal = [i for i, code in enumerate(ORDER) if code not in subset.split("+")]
            keep(golden, subset, network(image, window))
        shown = torch.tensor([[code in view.split("+") for code in ORDER] for view in VIEWS])[:, :, None, None, None]
        (d0, d1), (h0, h1), (w0, w1) = window
        fill = network.limage[:, :, d0:d1, h0:h1, w0:w1].expand(2, -1, -1, -1, -1)
        outputs, style, _ = network.unet.train()(torch.where(shown, image.expand(2, -1, -1, -1, -1), fill))
        truth = label(SIZE)
        regions = (
            torch.stack([truth == 3, (truth == 1) | (truth == 3), truth > 0], dim=1).float().expand(2, -1, -1, -1, -1)
        )
        criterion = EDiceLoss()
        golden["loss.segmentation"] = np.array(sum(float(criterion(output, regions)) for output in outputs))
        overlaps = [criterion.binary_dice(o[:, i], regions[:, i], i) for o in outputs for i in range(3)]
        golden["loss.dice"] = np.array(float(sum(overlaps)) / 3)
        for name, features in (("bottleneck", style[2]), ("deep_output", outputs[0])):
            golden[f"loss.{name}"] = np.array(float(nn.functional.mse_loss(features[0], features[1])))
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        terms = pretraining(weights, image, window)
        golden |= {f"loss.{name}": np.array(value) for name, value in terms.items()}
    return golden, {"unet": modules(network)["unet"]}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
