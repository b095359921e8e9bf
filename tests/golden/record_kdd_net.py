"""Record what the authors' KDD-Net computes from deterministic weights.

    python tests/golden/record_kdd_net.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names. Its loss stands inside a
training loop; it is calls of `torch.nn.CrossEntropyLoss` and `torch.nn.KLDivLoss`.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers, state_dict
from recorder import modules, shapes, write
from torch.nn import functional as F

REPOSITORY = "https://github.com/illidanlab/incomplete-multimodal-kd"
COMMIT = "5a17ec4587be94c5fcb9ee911b4c0e3cb6167fd0"
#: The two inputs, and their features, hidden units and classes.
CODES = ("t1", "flair")
FEATURES, HIDDEN, CLASSES = 27, 16, 3
ROWS = 6
LABELS = (0, 1, 2, 2, 1, 0)
TEMPERATURE, ALPHA, BETA = 3.0, 0.7, 0.4


def inputs() -> torch.Tensor:
    """Features of both inputs, shape (ROWS, 2, FEATURES)."""
    return torch.stack([numbers(f"features.{code}", (ROWS, FEATURES)) * FEATURES**0.5 for code in CODES], dim=1)


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' networks and losses."""
    sys.path.insert(0, str(authors))
    for name in ("model", "model.sparsemax"):
        sys.modules[name] = types.ModuleType(name)  # of their attention variants, which are not recorded
    sys.modules["model.sparsemax"].Sparsemax = object
    from DNN import DNNNetOne, DNNNetTwo

    layout: dict[str, dict[str, list[int]]] = {}
    golden: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}

    def fill(network: torch.nn.Module, prefix: str) -> torch.nn.Module:
        weights = state_dict({f"{prefix}.{name}": shape for name, shape in shapes(network).items()})
        network.load_state_dict({name.removeprefix(f"{prefix}."): value for name, value in weights.items()})
        layout[prefix] = shapes(network)
        counts[prefix] = sum(modules(network).values())
        return network.eval()

    x = inputs()
    with torch.no_grad():
        taught = [
            fill(DNNNetOne(FEATURES, HIDDEN, CLASSES), f"teacher.{code}")(x[:, i]) for i, code in enumerate(CODES)
        ]
        made = fill(DNNNetTwo(FEATURES, FEATURES, HIDDEN, CLASSES), "student")(x[:, 0], x[:, 1])
    golden |= {
        f"logits.{name}": value.numpy() for name, value in zip((*CODES, "student"), (*taught, made), strict=True)
    }
    labels, entropy = torch.tensor(LABELS), torch.nn.CrossEntropyLoss()
    divergence = torch.nn.KLDivLoss(reduction="batchmean")
    log_p = F.log_softmax(made / TEMPERATURE, dim=1)
    values = {f"teacher_{code}": entropy(logits, labels) for code, logits in zip(CODES, taught, strict=True)}
    values["cross_entropy"] = entropy(made, labels)
    for code, logits in zip(CODES, taught, strict=True):
        values[f"distillation_{code}"] = divergence(log_p, F.softmax(logits / TEMPERATURE, dim=1)) * TEMPERATURE**2
    values["student"] = (
        values["cross_entropy"] + ALPHA * values["distillation_t1"] + BETA * values["distillation_flair"]
    )
    golden |= {f"loss.{name}": np.array(float(value)) for name, value in values.items()}
    golden["shapes"] = np.array(json.dumps(layout))
    return golden, counts


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
