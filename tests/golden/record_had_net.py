"""Record what the authors' HAD-Net computes from deterministic weights.

    python tests/golden/record_had_net.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. Its losses stand inside
the training script, which runs on import; they are calls of `torch.nn.CrossEntropyLoss` and `torch.nn.MSELoss`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from named_numbers import sample, state_dict
from recorder import images, keep, label, modules, shapes, write

REPOSITORY = "https://github.com/SaverioVad/HAD_Net"
COMMIT = "67b2dfb6bae5b971c86b42d747975684d96e36b1"
#: Channel order of the authors' data in our codes: names sorted.
ORDER = ("flair", "t1c", "t1", "t2")
#: The published student first.
SUBSETS = ("t1+t2+flair", "t1+t2", "flair")
SIZE = 32
#: Channels of the finest level; the released networks have 32.
WIDTH = 8
#: Of background, ncr, edema, et.
WEIGHTS = (1.0, 59.4507, 23.3190, 71.8481)
#: Weight of the adversarial term.
LAMBDA = 0.2


def joined(pairs: list[list[torch.Tensor]]) -> torch.Tensor:
    """All values of the features that the discriminator looks at."""
    return torch.cat([feature.flatten() for pair in pairs for feature in pair])


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' networks and losses."""
    sys.path.insert(0, str(authors))
    from models.discriminator_model import Discriminator
    from models.generator_model import Generator

    layout: dict[str, dict[str, list[int]]] = {}
    golden: dict[str, np.ndarray] = {}

    def fill(network: torch.nn.Module, prefix: str) -> torch.nn.Module:
        weights = state_dict({f"{prefix}.{name}": shape for name, shape in shapes(network).items()})
        network.load_state_dict({name.removeprefix(f"{prefix}."): value for name, value in weights.items()})
        layout[prefix] = shapes(network)
        return network.eval()

    image, made = images(ORDER, SIZE), {}
    for name, codes in (("teacher", ORDER), *((subset, subset.split("+")) for subset in SUBSETS)):
        columns = [number for number, code in enumerate(ORDER) if code in codes]
        network = fill(Generator(len(columns), WIDTH, 0.2, 4), name)
        with torch.no_grad():
            made[name] = network(image[:, columns])
        keep(golden, name, made[name][0])
        golden[f"{name}.pairs"] = sample(joined(made[name][1]))
    sources = image[:, [number for number, code in enumerate(ORDER) if code in SUBSETS[0]]]
    judge = fill(Discriminator(3 + 4, WIDTH), "discriminator")
    with torch.no_grad():
        real, fake = (judge(logits, sources, pairs) for logits, pairs in (made["teacher"], made[SUBSETS[0]]))
    golden |= {"score.teacher": real.numpy(), "score.student": fake.numpy()}
    weighted, squared = torch.nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS)), torch.nn.MSELoss()
    values = {
        "cross_entropy": weighted(made[SUBSETS[0]][0], label(SIZE)),
        "adversarial": squared(fake, torch.ones_like(fake)),
        "discriminator_teacher": squared(real, torch.ones_like(real)),
        "discriminator_student": squared(fake, torch.zeros_like(fake)),
        "right": ((real >= 0.5).float().mean() + (fake <= 0.5).float().mean()) / 2,
    }
    values["student"] = values["cross_entropy"] + LAMBDA * values["adversarial"]
    golden |= {f"loss.{name}": np.array(float(value)) for name, value in values.items()}
    golden["shapes"] = np.array(json.dumps(layout))
    with torch.device("meta"):
        published = {
            "teacher": Generator(4, 32, 0.2, 4),
            "student": Generator(3, 32, 0.2, 4),
            "discriminator": Discriminator(3 + 4, 32),
        }
    return golden, {name: sum(modules(network).values()) for name, network in published.items()}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
