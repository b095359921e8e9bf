"""What the scripts that record goldens share: inputs, the command line, and what is noted about a recording."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from named_numbers import numbers, sample, script_hash
from torch import nn


def images(order: Iterable[str], size: int, rows: int = 1) -> torch.Tensor:
    """Normal noise of shape (rows, M, size, size, size), the same for a modality's name wherever it stands."""
    cube = (size,) * 3
    return torch.cat([numbers(f"input.{code}", (rows, 1, *cube)) * size**1.5 for code in order], dim=1)


def label(size: int, rows: int = 1) -> torch.Tensor:
    """Nested boxes of the labels 1 to 3, shape (rows, size, size, size); no axis is like another."""
    result = torch.zeros(rows, *(size,) * 3, dtype=torch.int64)
    for row in range(rows):
        for value in (1, 2, 3):
            result[row, 2 + 2 * value + row : size - 3 * value, 3 * value : -value - 2, value : size // 2 + 4] = value
    return result


def shapes(module: nn.Module) -> dict[str, list[int]]:
    """Shape of every weight by name."""
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def keep(golden: dict[str, np.ndarray], name: str, logits: torch.Tensor) -> None:
    """Store sampled values and moments of a tensor."""
    golden[f"{name}.logits"] = sample(logits)
    golden[f"{name}.moments"] = np.array([logits.mean().item(), logits.std().item()])


def modules(network: nn.Module, prefix: str = "") -> dict[str, int]:
    """Number of parameters of every child."""
    return {prefix + name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}


def write(
    script: str,
    repository: str,
    commit: str,
    record: Callable[[Path], tuple[dict[str, np.ndarray], dict[str, int]]],
) -> None:
    """Command line of a recording script: ``--authors PATH`` (a working copy at `commit`) and ``--out``."""
    out = Path(script).with_name(Path(script).stem.removeprefix("record_") + ".npz")
    parser = argparse.ArgumentParser(description=f"Record what the code of {repository} computes.")
    parser.add_argument("--authors", type=Path, required=True, help=f"working copy of {repository}")
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    head = subprocess.run(
        ["git", "-C", str(options.authors), "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", check=True
    ).stdout.strip()
    if head != commit:
        parser.error(f"{options.authors} is at {head}, expected {commit}")
    golden, parameters = record(options.authors)
    about = {
        "repository": repository,
        "commit": commit,
        "script": script_hash(script),
        "torch": torch.__version__,
        "parameters": parameters,
    }
    np.savez_compressed(options.out, about=np.array(json.dumps(about)), **golden)
