"""Record what the released code of HF-GAN computes from deterministic weights.

    python tests/golden/record_hf_gan.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. A narrower network than
published, on slices of 48 x 48 instead of 240 x 240; the discriminator's classifier has the kernel of that size. The
training script's two passes are run with chosen sequences, its criteria applied before their weights; dropout is off.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers
from recorder import keep, shapes, write
from torch import nn
from torch.nn import functional as F

REPOSITORY = "https://github.com/SSTDV-Project/HF-GAN"
#: Channels of the recorded slices; the code does not say in which order those of the published data were.
ORDER = ("flair", "t1", "t2", "t1c")
COMMIT = "e4a9f533776e551dd21b1808625e06a141494de8"
SIZE, WIDTH, LAYERS = 48, 16, 2
MULTIPLIERS = (1, 2, 4, 8, 10)
#: What is shown, and made of it.
TASKS = (("t2", "t1"), ("flair+t1c", "t1"), ("flair+t1+t2", "t1c"))
#: Rows of the training step: what is shown, what is made first, and what is made again.
ROWS = (("flair+t1c", "t1", "t1c"), ("t2", "flair", "t2"))


def slices() -> torch.Tensor:
    """Two slices (2, 4, SIZE, SIZE) within [-1, 1], in `ORDER`."""
    image = torch.cat([SIZE * numbers(f"input.{code}", (2, 1, SIZE, SIZE)) for code in ORDER], dim=1)
    return (image / 3).clamp(-1, 1)


def filled(layout: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    """Numbers by name; scales of norms are about 1 and shifts small."""
    weights = {}
    for name, shape in layout.items():
        value = numbers(f"{prefix}.{name}", tuple(shape))
        if len(shape) == 1:
            norm = ".norm." in name or "_norm." in name or "final.1" in name
            value = 0.1 * value + (1.0 if norm and name.endswith("weight") else 0.0)
        weights[name] = value
    return weights


def numbered(subset: str) -> list[int]:
    """Their numbers of sequences."""
    return sorted(ORDER.index(code) for code in subset.split("+"))


def hidden_but(image: torch.Tensor, shown: list[list[int]]) -> torch.Tensor:
    """Background where a row does not show a sequence."""
    masked = torch.full_like(image, -1.0)
    for row, channels in enumerate(shown):
        masked[row, channels] = image[row, channels]
    return masked


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' generator and discriminator."""
    sys.path.insert(0, str(authors))
    # Their one use of einops inserts an axis.
    sys.modules["einops"] = types.SimpleNamespace(rearrange=lambda x, pattern: x[:, None])  # type: ignore[assignment]
    from network import network as theirs

    with torch.device("meta"):
        published = {
            "generator": theirs.HFGAN(64, 4, 1, MULTIPLIERS, 4, True, False),
            "discriminator": theirs.Discriminator(1, 64),
        }
    generator = theirs.HFGAN(WIDTH, 4, 1, MULTIPLIERS, LAYERS, True, False, image_size=SIZE).eval()
    discriminator = theirs.Discriminator(1, WIDTH).eval()
    discriminator.classifier = nn.Conv2d(8 * WIDTH, 4, SIZE // 8 - 1, bias=False)
    networks = {"generator": generator, "discriminator": discriminator}
    layout = {name: shapes(network) for name, network in networks.items()}
    for name, network in networks.items():
        network.load_state_dict(filled(layout[name], name))
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps(layout))}
    image = slices()

    def made(masked: torch.Tensor, shown: list[list[int]], target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fused, maps = generator.encoder(masked, shown)
        return generator.decoder(generator.middle(fused, target), maps), fused

    with torch.no_grad():
        for subset, target in TASKS:
            shown = [numbered(subset)] * 2
            which = torch.full((2,), ORDER.index(target))
            keep(golden, f"{subset}.{target}", made(hidden_but(image, shown), shown, which)[0])
        golden |= {f"loss.{name}": np.array(v.item()) for name, v in losses(made, discriminator, image).items()}
    return golden, {name: sum(p.numel() for p in network.parameters()) for name, network in published.items()}


def losses(made, discriminator, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Terms of both networks' steps, as the training script computes them."""
    shown = [numbered(subset) for subset, _, _ in ROWS]
    target = torch.tensor([ORDER.index(code) for _, code, _ in ROWS])
    second = torch.tensor([ORDER.index(code) for _, _, code in ROWS])
    again = [[m for m in range(4) if m != second[0]], [int(target[1])]]
    rows = torch.arange(2)
    wanted, source = image[rows, target, None], image[rows, second, None]
    first, fused = made(hidden_but(image, shown), shown, target)
    masked = hidden_but(image, again)
    masked[rows, target] = first[:, 0]
    remade, refused = made(masked, again, second)
    binary, classes = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()
    (score_fake, class_fake), (score_real, class_real) = discriminator(first), discriminator(source)
    return {
        "reconstruction": (wanted - first).abs().mean(),
        "adversarial": binary(score_fake, torch.ones_like(score_fake)),
        "class": classes(class_fake, target),
        "feature": 1 - F.cosine_similarity(fused.flatten(1), refused.flatten(1)).mean(),
        "cycle": (source - remade).abs().mean(),
        "real": binary(score_real, torch.ones_like(score_real)),
        "fake": binary(score_fake, torch.zeros_like(score_fake)),
        "real_class": classes(class_real, second),
        "fake_class": classes(class_fake, target),
    }


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
