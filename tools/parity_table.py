"""Write ``docs/reference/parity.md``: every method beside its authors' code, from the recorded goldens.

    python tools/parity_table.py

Runs our networks on the inputs the authors' networks were recorded with (``tests/golden``); about a minute
on one core. Each method has a module of `parity_rows`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

ROOT = Path(__file__).parents[1]

#: Text above the table.
HEAD = """# Parity with the authors' code

Both networks are filled with the same deterministic numbers and given the same images. *Difference* is the largest
difference of the logits, or of the images of a system that synthesises, over their standard deviation (4096 sampled
voxels a subset, target at most 1e-4); *parameters* are those of the modules that are compared. The authors' numbers are
goldens, recorded on the CPU by `tests/golden/record_<name>.py --authors PATH` with repository and commit kept inside;
no line of theirs is in this repository. Memory and time beside theirs are on
[a page of their own](../results/against-authors.md).

Made by `python tools/parity_table.py`.

| Method | Compared with | Parameters, ours | theirs | Difference by subset |
|---|---|---:|---:|---|
"""

#: Text between the tables.
MIDDLE = """
U-HeMIS has no PyTorch code of its authors: it shares encoder and decoder with U-HVED, and has the published 1,096,848
parameters. HeMIS, REPLICA and the unified ResViT have no code of their authors at all. Official U-HVED and RobustSeg
are TensorFlow 1; a port is compared. What `anymri methods` calls an interpretation has no code that
could be run. Where the authors' code defines losses in PyTorch (all others but nnU-Net per subset), each term agrees to
1e-4 of its value (`tests/methods/test_<name>.py`), and so do those of the two ports but for
what they change: both have a Dice with plain sums and leave the penalty on weights to the optimiser;
U-HVED's has other constants in its divergences and a floor in its cross-entropy, which no probability here goes below;
RobustSeg's has the mean over channels of its divergence instead of their sum. RobustSeg's reconstruction is compared on
given images, since the port's image decoders are others.

## Load an authors' checkpoint

```sh
anymri import-weights rfnet model_last.pth -o rfnet.safetensors   # then: anymri predict --model rfnet.safetensors
```

`--source` says which weights these are where a method knows several, `--entry` which entry of the file to take
(`state_dict` is found by itself). Nothing that a file holds is run. In Python:
`anymri.zoo.import_checkpoint(name, state_dict, source)`.

| Method | What to give """

#: Text below the tables.
TAIL = """|---|---|---|---|---|
{LOADS}
Channels are mapped by name on import. Intensities are the method's own scale, from each sequence's own brain: close
to theirs, not equal, so a published Dice need not come out to the last digit. Kernels of arrays (x, y, z) are turned to
our (z, y, x). Left and right, and front and back, run the other way in BraTS files; the networks were trained with
mirrored images. RFNet and mmFormer were released with PyTorch 1.2, which padded with zeros where their code says
"reflect"; `retrained` is for weights their code wrote with PyTorch 1.10 or later. ACN's and SMU-Net's checkpoints were
pickled whole, which `anymri import-weights` refuses: `torch.load(..., weights_only=False)` opens them, and runs what
the file says, so only for files you trust; hand what it gives to `import_checkpoint`, or save the entries' state
dictionaries again.
"""


def compared() -> dict[str, ModuleType]:
    """Modules of `parity_rows` by the method's name, alphabetical."""
    sys.path.insert(0, str(ROOT / "tools"))
    names = sorted(path.stem for path in (ROOT / "tools" / "parity_rows").glob("*.py"))
    return {name: import_module(f"parity_rows.{name}") for name in names if name not in ("__init__", "compared")}


def differences(modules: dict[str, ModuleType]) -> Iterator[str]:
    """Rows of the first table."""
    for name, module in modules.items():
        with torch.inference_mode():
            where, ours, theirs, found = module.row()
        cells = ", ".join(f"{subset} {value:.1e}" for subset, value in found.items())
        yield f"| `{name}` | {where} | {ours:,} | {theirs:,} | {cells} |\n"


def loads(modules: dict[str, ModuleType]) -> Iterator[str]:
    """Rows of the second table."""
    return (f"| `{name}` | {module.LOAD} |\n" for name, module in modules.items() if hasattr(module, "LOAD"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = compared()
    text = HEAD + "".join(differences(rows)) + MIDDLE + "".join(loads(rows)) + TAIL
    (ROOT / "docs" / "reference" / "parity.md").write_text(text, encoding="utf-8")
