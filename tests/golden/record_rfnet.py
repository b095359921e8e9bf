"""Record what the authors' RFNet computes from deterministic weights.

    python tests/golden/record_rfnet.py --authors PATH

PATH holds a working copy of https://github.com/dyh127/RFNet; nothing of it is kept but its numbers and names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers, sample, script_hash, state_dict

REPOSITORY = "https://github.com/dyh127/RFNet"
COMMIT = "1e475fa5de4ac3f41f8de3d3102bb8b28383c2c4"
#: Channel order of the authors' data, in our codes.
ORDER = ("flair", "t1c", "t1", "t2")
SUBSETS = ("t1c", "flair", "t1+t2", "t1+t1c+flair", "t1+t1c+t2+flair")
SIZE = 32
#: What the two rows of the batch with losses are shown.
LOSS_SUBSETS = ("t1c+t2", "t1+t1c+t2+flair")


def mask(subset: str) -> torch.Tensor:
    """Row of a subset in the authors' channel order."""
    return torch.tensor([[code in subset.split("+") for code in ORDER]])


def images(rows: int) -> torch.Tensor:
    """Input of the authors' network, shape (rows, 4, D, H, W)."""
    return torch.cat([numbers(f"input.{code}", (rows, 1, SIZE, SIZE, SIZE)) * SIZE**1.5 for code in ORDER], dim=1)


def label(rows: int) -> torch.Tensor:
    """Label map of nested boxes, shape (rows, D, H, W); the rows differ."""
    result = torch.zeros(rows, SIZE, SIZE, SIZE, dtype=torch.int64)
    for row in range(rows):
        for value in (1, 2, 3):
            inner = slice(4 + row + 2 * value, SIZE - 3 * value)
            result[row, inner, inner, inner] = value
    return result


def record(authors: Path) -> dict[str, np.ndarray]:
    """Run the authors' network and losses."""
    sys.path.insert(0, str(authors))
    import models
    from utils import criterions

    network = models.Model(num_cls=4)
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict(state_dict(shapes))
    caught = []
    network.decoder_fuse.seg_layer.register_forward_hook(lambda module, given, result: caught.append(result))
    golden = {"shapes": np.array(json.dumps(shapes))}
    with torch.no_grad():
        for subset in SUBSETS:
            network(images(1), mask(subset))
            golden[f"{subset}.logits"] = sample(caught[-1])
            golden[f"{subset}.moments"] = np.array([caught[-1].mean(), caught[-1].std()])
        network.is_training = True
        fused, alone, maps = network(images(2), torch.cat([mask(subset) for subset in LOSS_SUBSETS]))
        onehot = torch.nn.functional.one_hot(label(2), 4).movedim(-1, 1)
        for name, predictions in (("fusion", [fused]), ("separate", alone), ("region_map", maps)):
            for loss, function in (
                ("cross_entropy", criterions.softmax_weighted_loss),
                ("dice", criterions.dice_loss),
            ):
                golden[f"loss.{name}_{loss}"] = np.array(
                    sum(float(function(prediction, onehot, num_cls=4)) for prediction in predictions)
                )
    modules = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    golden["about"] = np.array(
        json.dumps(
            {
                "repository": REPOSITORY,
                "commit": COMMIT,
                "script": script_hash(__file__),
                "torch": torch.__version__,
                "parameters": modules,
            }
        )
    )
    return golden


def main() -> None:
    """Write ``rfnet.npz`` beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authors", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rfnet.npz"))
    options = parser.parse_args()
    if (options.authors / ".git").exists():
        head = subprocess.run(
            ["git", "-C", str(options.authors), "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", check=True
        )
        if head.stdout.strip() != COMMIT:
            parser.error(f"{options.authors} is at {head.stdout.strip()}, expected {COMMIT}")
    np.savez_compressed(options.out, **record(options.authors))


if __name__ == "__main__":
    main()
