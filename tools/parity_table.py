"""Write ``docs/reference/parity.md``: every method beside its authors' code, from the recorded goldens.

    python tools/parity_table.py

Runs our networks on the inputs the authors' networks were recorded with (``tests/golden``); about a minute on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "methods")]

import record_acn  # noqa: E402
import record_m3ae  # noqa: E402
import record_mm_gan  # noqa: E402
import record_mmcformer  # noqa: E402
import record_mmformer  # noqa: E402
import record_nnunet_per_subset  # noqa: E402
import record_resvit  # noqa: E402
import record_rfnet  # noqa: E402
import record_robust_seg  # noqa: E402
import record_smu_net  # noqa: E402
import record_u_hved  # noqa: E402
from named_numbers import state_dict  # noqa: E402
from parity import Golden, parameters  # noqa: E402
from recorder import images  # noqa: E402

from anymri.types import GLIOMA, Where  # noqa: E402
from anymri.zoo import import_checkpoint  # noqa: E402

#: What is compared: our parameters, theirs, and the largest difference of each subset.
Row = tuple[str, int, int, dict[str, float]]

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

TAIL = """
U-HeMIS has no PyTorch code of its authors: it shares encoder and decoder with U-HVED, and has the published 1,096,848
parameters. HeMIS, REPLICA and the unified ResViT have no code of their authors at all. Official U-HVED and RobustSeg
are TensorFlow 1; a port is compared. Where the authors' code defines losses in PyTorch (ACN, M3AE, MMCFormer, MM-GAN,
mmFormer, ResViT, RFNet, SMU-Net), each term agrees to 1e-4 of its value (`tests/methods/test_<name>.py`), and so do the
two ports' but for what they change: both have a Dice with plain sums and leave the penalty on weights to the optimiser;
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

| Method | What to give | `source` | Their channels | Their intensities |
|---|---|---|---|---|
| `rfnet` | entry `state_dict` | `official`, `retrained` | flair, t1c, t1, t2 | z-score, sum of all positive |
| `u_hved` | entry `state_dict` of the port | `port` | t1, t1c, t2, flair | z-score |
| `robust_seg` | entry `state_dict` of the port | `port` | flair, t1c, t1, t2 | z-score |
| `acn` | the whole checkpoint | `official` (T1c), `official:<subset>` | t1, t2, flair, t1c | range to [0, 1] |
| `smu_net` | the whole checkpoint | `official:<subset>` | available first; flair, t1, t1c, t2 | range to [0, 1] |
| `mmformer` | entry `state_dict` | `official`, `retrained` | flair, t1c, t1, t2 | z-score, sum of all positive |
| `m3ae` | entry `state_dict` | `official` | t1, t1c, t2, flair | 1st to 99th percentile to [0, 1] |
| `mm_gan` | entry `state_dict` of the generator | `official` | t1, t2, t1c, flair | over the brain's mean |
| `mmcformer` | the whole checkpoint | `official:<subset>` | available first; flair, t1, t1c, t2 | range to [0, 1] |
| `resvit` | `latest_net_G.pth` | `official:<sources>-><target>` | as given in `source` | [-1, 1], range not stated |
| `nnunet_per_subset` | entry `network_weights` | `official:<subset>` | t1, t1c, t2, flair | z-score |

Channels are mapped by name on import. Intensities are the method's own scale, from each sequence's own brain: close
to theirs, not equal, so a published Dice need not come out to the last digit. Kernels of arrays (x, y, z) are turned to
our (z, y, x). Left and right, and front and back, run the other way in BraTS files; the networks were trained with
mirrored images. RFNet and mmFormer were released with PyTorch 1.2, which padded with zeros where their code says
"reflect"; `retrained` is for weights their code wrote with PyTorch 1.10 or later. ACN's and SMU-Net's checkpoints were
pickled whole, which `anymri import-weights` refuses: `torch.load(..., weights_only=False)` opens them, and runs what
the file says, so only for files you trust; hand what it gives to `import_checkpoint`, or save the entries' state
dictionaries again.
"""


def _flat(name: str, source: str) -> tuple[Golden, Any]:
    golden = Golden(name)
    return golden, import_checkpoint(name, state_dict(golden.shapes), source)


def _any_subset(golden: Golden, method: Any, image: Tensor, subsets: tuple[str, ...]) -> dict[str, float]:
    """Differences of a network for any subset, on images (x, y, z)."""
    features = method.encode(image.transpose(2, 4), torch.ones(1, 4, dtype=torch.bool))
    shown = {subset: GLIOMA.available(subset.split("+"))[None] for subset in subsets}
    return {s: golden.difference(s, method.decode(features, row).logits.transpose(2, 4)) for s, row in shown.items()}


def _in_our_order(image: Tensor, order: tuple[str, ...]) -> Tensor:
    return image[:, [order.index(code) for code in GLIOMA.modalities]]


def rfnet() -> Row:
    """All of it, padded as a current PyTorch does."""
    golden, method = _flat("rfnet", "retrained")
    image = _in_our_order(record_rfnet.images(1), record_rfnet.ORDER)
    differences = _any_subset(golden, method, image, record_rfnet.SUBSETS)
    return record_rfnet.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences


def u_hved() -> Row:
    """All of it."""
    golden, method = _flat("u_hved", "port")
    differences = _any_subset(golden, method, images(GLIOMA.modalities, record_u_hved.SIZE), record_u_hved.SUBSETS)
    return f"port in {record_u_hved.REPOSITORY}", parameters(method), sum(golden.parameters.values()), differences


def robust_seg() -> Row:
    """Without image decoders, whose layer norms differ."""
    golden, method = _flat("robust_seg", "port")
    image = _in_our_order(images(record_robust_seg.ORDER, record_robust_seg.SIZE), record_robust_seg.ORDER)
    theirs = sum(size for name, size in golden.parameters.items() if not name.startswith("image_de"))
    ours = parameters(method) - parameters(method.get_submodule("images"))
    differences = _any_subset(golden, method, image, record_robust_seg.SUBSETS)
    return f"port in {record_robust_seg.REPOSITORY}", ours, theirs, differences


def acn() -> Row:
    """The missing paths; parameters of both paths and discriminators of the released T1c example."""
    golden, counted = Golden("acn"), 0
    differences: dict[str, float] = {}
    entries = {name: golden.filled(name) for name in ("model", "d_main", "d_feature")}
    image = _in_our_order(images(record_acn.ORDER, record_acn.SIZE), record_acn.ORDER)
    for subset in record_acn.SUBSETS:
        own = {**entries, "model_mono": golden.filled(f"model_mono.{subset}")}
        method = import_checkpoint("acn", own, f"official:{subset}")
        differences |= _disjoint(golden, method, image, subset, subset)
        counted = counted or parameters(method)
    names = ("model.unet", "model_mono.unet", "model_mono.VID_branch", "d_main", "d_feature")
    return record_acn.REPOSITORY, counted, sum(golden.parameters[name] for name in names), differences


def smu_net() -> Row:
    """Both paths and the discriminator."""
    golden = Golden("smu_net")
    entries = {name: golden.filled(name) for name in ("model_full", "model_missing", "d_style")}
    method = import_checkpoint("smu_net", entries, "official:flair+t1c")
    image = _in_our_order(images(record_smu_net.ORDER, record_smu_net.SIZE), record_smu_net.ORDER)
    differences = _disjoint(golden, method, image, "t1c+flair", "model_missing")
    return record_smu_net.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences


def _disjoint(golden: Golden, method: Any, image: Tensor, subset: str, name: str) -> dict[str, float]:
    """Difference of one subset's network; the authors' channels are edema, ncr, et, background."""
    logits = method.predict(image.transpose(2, 4), GLIOMA.available(subset.split("+"))[None]).logits
    return {subset: golden.difference(name, logits[:, [1, 0, 2, 3]].transpose(2, 4))}


def mmformer() -> Row:
    """With small position tables; the authors' four layers that are never called are not counted."""
    golden = Golden("mmformer")
    method = import_checkpoint("mmformer", golden.filled("network"), "retrained")
    image = _in_our_order(images(record_mmformer.ORDER, record_mmformer.SIZE), record_mmformer.ORDER)
    tables = sum(p.numel() for name, p in method.named_parameters() if name.endswith(".position"))
    theirs = sum(n for name, n in golden.parameters.items() if name[-11:] != "decode_conv" or name[:5] == "multi")
    differences = _any_subset(golden, method, image, record_mmformer.SUBSETS)
    return record_mmformer.REPOSITORY, parameters(method) - tables, theirs, differences


def m3ae() -> Row:
    """Without learned image and reconstruction head; arrays are (z, y, x) as ours."""
    golden = Golden("m3ae")
    weights = golden.filled("network")
    method: Any = import_checkpoint("m3ae", {**weights, "limage": weights["limage"] * 100.0})
    where = Where(*(torch.tensor([v]) for v in (record_m3ae.ORIGIN, record_m3ae.IMAGE_SHAPE, (False,) * 3)))
    features = method.encode(images(record_m3ae.ORDER, record_m3ae.SIZE), torch.ones(1, 4).bool(), where)
    differences = {
        subset: golden.difference(subset, method.decode(features, GLIOMA.available(subset.split("+"))[None]).logits)
        for subset in record_m3ae.SUBSETS
    }
    ours = parameters(method) - parameters(method.learned_image) - parameters(method.reconstruction)
    return record_m3ae.REPOSITORY, ours, golden.parameters["unet"], differences


def mm_gan() -> Row:
    """Generator and discriminator; of the output, the missing sequences. Their slices are (x, y)."""
    golden = Golden("mm_gan")
    judge = {f"discriminator.{key}": value for key, value in golden.filled("discriminator").items()}
    method: Any = import_checkpoint("mm_gan", {**golden.filled("generator"), **judge})
    image = _in_our_order(record_mm_gan.slices(), record_mm_gan.ORDER).transpose(2, 3).transpose(0, 1)[None]
    differences = {}
    for subset in record_mm_gan.SUBSETS:
        made = method.predict(image, GLIOMA.available(subset.split("+"))[None]).image[0].transpose(2, 3)
        missing = [GLIOMA.index(code) for code in record_mm_gan.ORDER if code not in subset.split("+")]
        differences[subset] = golden.difference(subset, made[missing].transpose(0, 1).contiguous())
    return record_mm_gan.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences


def resvit() -> Row:
    """One source, on small slices; counted at the published 256 x 256."""
    golden = Golden("resvit")
    weights = record_resvit.filled(golden.shapes["generator"], "generator")
    task = f"{'+'.join(record_resvit.SOURCES)}->{record_resvit.TARGET}"
    method: Any = import_checkpoint("resvit", weights, f"official:{task}")
    image = torch.cat([record_resvit.slices(code) for code in GLIOMA.modalities], dim=1).transpose(0, 1)[None]
    made = method.predict(image, GLIOMA.available(record_resvit.SOURCES)[None]).image
    difference = golden.difference("resvit", made[0, GLIOMA.index(record_resvit.TARGET)].contiguous())
    tables = 2 * (256 - (record_resvit.SIZE // 16) ** 2) * method.config.hidden
    theirs = golden.parameters["generator"] + golden.parameters["discriminator"]
    return record_resvit.REPOSITORY, parameters(method) + tables, theirs, {task: difference}


def mmcformer() -> Row:
    """Both paths, without the layers that are never called; arrays are (z, x, y)."""
    golden = Golden("mmcformer")
    entries = {name: golden.filled(name) for name in ("model_full", "model_missing")}
    method = import_checkpoint("mmcformer", entries, f"official:{record_mmcformer.SUBSET}")
    image = _in_our_order(record_mmcformer.window(), record_mmcformer.ORDER).transpose(3, 4)
    logits = method.predict(image, GLIOMA.available(record_mmcformer.SUBSET.split("+"))[None]).logits
    difference = golden.difference("model_missing", logits[:, [1, 0, 2, 3]].transpose(3, 4))
    theirs = sum(golden.parameters.values())
    return record_mmcformer.REPOSITORY, parameters(method), theirs, {record_mmcformer.SUBSET: difference}


def nnunet_per_subset() -> Row:
    """All four sequences; the finest output."""
    golden = Golden("nnunet_per_subset")
    method = import_checkpoint("nnunet_per_subset", golden.filled("network"))
    image = images(record_nnunet_per_subset.ORDER, record_nnunet_per_subset.SIZE)
    logits = method.predict(image, torch.ones(1, 4).bool()).logits
    differences = {"t1+t1c+t2+flair": golden.difference("level0", logits)}
    theirs = sum(golden.parameters.values())
    return record_nnunet_per_subset.REPOSITORY, parameters(method), theirs, differences


#: Every method that is compared; a new one adds its function here.
METHODS: tuple[Callable[[], Row], ...] = (
    acn,
    m3ae,
    mm_gan,
    mmcformer,
    mmformer,
    nnunet_per_subset,
    resvit,
    rfnet,
    robust_seg,
    smu_net,
    u_hved,
)


def lines() -> Iterator[str]:
    """Rows of the table."""
    for compare in METHODS:
        with torch.inference_mode():
            where, ours, theirs, differences = compare()
        cells = ", ".join(f"{subset} {value:.1e}" for subset, value in differences.items())
        yield f"| `{compare.__name__}` | {where} | {ours:,} | {theirs:,} | {cells} |\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    (ROOT / "docs" / "reference" / "parity.md").write_text(HEAD + "".join(lines()) + TAIL, encoding="utf-8")
