"""Time and memory of one prediction beside the authors' code: `paper` sizes, the published patch, one thread.

    python benchmarks/against_authors.py WORKING_COPIES [--methods rfnet acn ...] [--runs 7]

WORKING_COPIES holds a working copy of each repository by its name (``RFNet``, ``mmFormer``, ``IM-Fuse``, ...), at the
commits of `tests/golden/record_<method>.py`; nothing of them is in this repository. Both networks live in a process of
their own and take turns, so that other work on the machine meets both alike. Memory: the process's peak over a
prediction less what it held before. All modalities are shown; weights are random, which changes neither.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

Run = Callable[[], object]

#: Method to the repository's folder and the authors' patch (D, H, W), or slices (N, H, W).
METHODS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "rfnet": ("RFNet", (80, 80, 80)),
    "mmformer": ("mmFormer", (128, 128, 128)),
    "u_hved": ("IM-Fuse", (112, 112, 112)),
    "robust_seg": ("IM-Fuse", (80, 80, 80)),
    "acn": ("ACN", (128, 192, 160)),
    "smu_net": ("smunet", (128, 192, 160)),
    "mmcformer": ("MMCFormer", (128, 160, 192)),
    "m3ae": ("m3ae", (128, 128, 128)),
    "resvit": ("ResViT", (1, 256, 256)),
    "mm_gan": ("mm-gan", (4, 256, 256)),
}


def ours(name: str, patch: tuple[int, int, int]) -> Run:
    """Our network, all modalities shown; of a system with one network per subset, the one for all of them."""
    from anymri.methods import create
    from anymri.types import Where

    settings = {"resvit": {"subset": "t2", "target": "flair"}}.get(name, {})
    method = create(name, preset="paper", **settings).eval()
    image = torch.randn(1, 4, *patch).abs()
    available = torch.ones(1, 4, dtype=torch.bool)
    if name == "resvit":
        available = method.spec.available(("t2",))[None]
    if name == "mm_gan":  # it fills what is missing
        available[0, 3] = False
    where = Where(torch.zeros(1, 3, dtype=torch.long), torch.tensor([patch]), torch.zeros(1, 3, dtype=torch.bool))
    outputs = ("image",) if name in ("resvit", "mm_gan") else ("logits",)
    return lambda: method.predict(image, available, where, outputs)


def theirs(name: str, root: Path, patch: tuple[int, int, int]) -> Run:
    """The authors' network."""
    folder = root / METHODS[name][0]
    image, mask = torch.randn(1, 4, *patch).abs(), torch.ones(1, 4, dtype=torch.bool)
    network: nn.Module
    if name == "rfnet":
        sys.path.insert(0, str(folder))
        import models

        network = models.Model(num_cls=4).eval()
        return lambda: network(image, mask)
    if name == "mmformer":
        sys.path.insert(0, str(folder / "mmformer"))
        import mmformer

        mmformer.patch_size = patch[0] // 16
        network = mmformer.Model(num_cls=4).eval()
        return lambda: network(image, mask)
    if name == "u_hved":
        sys.path.insert(0, str(folder / "UHVED"))
        import UHVED

        network = UHVED.U_HVED(num_classes=4).eval()
        named = {code: image[:, i : i + 1] for i, code in enumerate(("T1", "T1c", "T2", "Flair"))}
        return lambda: network(named, mask, is_inference=True)
    if name == "robust_seg":
        sys.path.insert(0, str(folder / "RobustSeg"))
        torch.Tensor.cuda = lambda tensor, *arguments, **options: tensor  # type: ignore[method-assign,assignment]
        import RobustSeg

        network = RobustSeg.RobustSeg(num_cls=4).eval()
        return lambda: network(image, mask, is_training=False)
    return _theirs_of_one_subset(name, folder, image, patch)


def _theirs_of_one_subset(name: str, folder: Path, image: torch.Tensor, patch: tuple[int, int, int]) -> Run:
    """The authors' networks without a mask."""
    network: nn.Module
    if name in ("acn", "smu_net"):
        sys.path.insert(0, str(folder))
        from models import unet

        build = unet.UnetVAE3D if name == "acn" else unet.Unet_module
        network = build(patch, in_channels=4, out_channels=4, init_channels=16).eval()
        return lambda: network(image)
    if name == "mmcformer":
        stub = types.ModuleType("timm.models.layers")  # all they take of it is one initialisation
        stub.trunc_normal_ = nn.init.trunc_normal_  # type: ignore[attr-defined]
        sys.modules |= {
            "timm": types.ModuleType("timm"), "timm.models": types.ModuleType("models"), stub.__name__: stub,
        }  # fmt: skip
        sys.path.insert(0, str(folder))
        from model import MMCFormer

        network = MMCFormer("missing", img_size=list(patch), num_classes=4, in_chans=4).eval()
        return lambda: network(image)
    if name == "m3ae":
        sys.path.insert(0, str(folder))
        from model.Unet import Unet_missing

        network = Unet_missing(
            patch, in_channels=4, out_channels=3, mdp=3, deep_supervised=True, patch_shape=patch[0]
        ).eval()
        network.mask_modal = []  # type: ignore[assignment]
        window = [(0, size) for size in patch]
        return lambda: network(image, window)
    if name == "resvit":
        sys.modules["ml_collections"] = types.SimpleNamespace(ConfigDict=_Settings)  # type: ignore[assignment]
        package = types.ModuleType("models")  # without the code that loads training models
        package.__path__ = [str(folder / "models")]
        sys.modules["models"] = package
        from models import residual_transformers

        config = residual_transformers.CONFIGS["Res-ViT-B_16"]
        network = residual_transformers.ResViT(config, input_dim=1, img_size=patch[1], output_dim=1).eval()
        for part in network.modules():  # as in their test script
            if isinstance(part, nn.BatchNorm2d):
                part.train()
        slices = image[:, 0].movedim(1, 0)[: patch[0]]
        return lambda: network(slices)
    sys.path.insert(0, str(folder / "modules" / "advanced_gans"))
    import models

    network = models.GeneratorUNet(in_channels=4, out_channels=4, with_relu=True).eval()
    slices = image[0].movedim(1, 0)
    return lambda: network(slices)


class _Settings(dict):
    """Stands for the settings class that ResViT's code imports."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__  # type: ignore[assignment]


def serve(side: str, name: str, root: Path) -> None:
    """Build one network; then predict once for every line read, and answer with seconds and peak memory in MiB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    patch = METHODS[name][1]
    with torch.inference_mode():
        run = ours(name, patch) if side == "ours" else theirs(name, root, patch)
        before = _held_mib()
        print("ready", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
            print(seconds, peak, flush=True)


def _held_mib() -> float:
    """Memory of this process now."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(text.partition("VmRSS:")[2].split()[0]) / 1024


def compare(name: str, root: Path, runs: int) -> str:
    """A row of the table."""
    sides = {}
    for side in ("ours", "theirs"):
        command = [sys.executable, __file__, str(root), "--serve", side, name]
        sides[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
    found: dict[str, list[list[float]]] = {side: [] for side in sides}
    try:
        for process in sides.values():
            while (line := _ask(process, None)) != "ready":
                if not line:
                    return f"| `{name}` | could not be built |"
        for number in range(runs + 1):  # the first one warms up
            for side, process in sides.items():
                answer = _ask(process, "go")
                while not answer.replace(".", "").replace(" ", "").replace("e-", "").isdigit():
                    answer = _ask(process, None)
                if number:
                    found[side].append([float(value) for value in answer.split()])
    finally:
        for process in sides.values():
            process.kill()
    seconds = {side: statistics.median(row[0] for row in rows) for side, rows in found.items()}
    memory = {side: rows[-1][1] for side, rows in found.items()}
    patch = "x".join(map(str, METHODS[name][1]))
    return (
        f"| `{name}` | {patch} | {seconds['ours']:.2f} | {seconds['theirs']:.2f} | "
        f"{seconds['ours'] / seconds['theirs']:.2f} | {memory['ours']:.0f} | {memory['theirs']:.0f} | "
        f"{memory['ours'] / memory['theirs']:.2f} |"
    )


def _ask(process: subprocess.Popen, text: str | None) -> str:
    """Send a line, if any, and read one."""
    assert process.stdin is not None
    assert process.stdout is not None
    if text is not None:
        process.stdin.write(text + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def main() -> None:
    """Print a row a method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of the working copies")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "METHOD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve, arguments.root)
        return
    print("| method | patch | s ours | s theirs | ratio | MiB ours | MiB theirs | ratio |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name in arguments.methods:
        print(compare(name, arguments.root, arguments.runs), flush=True)


if __name__ == "__main__":
    main()
