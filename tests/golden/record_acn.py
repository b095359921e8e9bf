"""Record what the authors' ACN computes from deterministic weights.

    python tests/golden/record_acn.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import state_dict
from recorder import images, keep, label, modules, shapes, write
from torch.nn import functional as F

REPOSITORY = "https://github.com/Wangyixinxin/ACN"
COMMIT = "0643c5770e535fc458bdd5f1b6f226f3ac5234bc"
#: Channel order of the authors' data, in our codes.
ORDER = ("t1", "t2", "flair", "t1c")
SUBSETS = ("t1c", "t1c+flair")
SIZE = 32
#: Epoch of the losses: the consistency's weight is at its height.
EPOCH = 150


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' networks and losses."""
    sys.path.insert(0, str(authors))
    for plotting in ("cv2", "matplotlib", "matplotlib.cm", "matplotlib.pyplot"):
        sys.modules[plotting] = types.ModuleType(plotting)  # imported by their losses, and not used there
    sys.modules["matplotlib"].cm = sys.modules["matplotlib.cm"]
    import losses
    from models import MI, discriminator, unet

    def network(channels: int, prefix: str) -> torch.nn.Module:
        built = unet.UnetVAE3D((SIZE,) * 3, in_channels=channels, out_channels=4, init_channels=16).eval()
        weights = state_dict({f"{prefix}.{name}": shape for name, shape in shapes(built).items()})
        built.load_state_dict({name.removeprefix(f"{prefix}."): value for name, value in weights.items()})
        return built

    golden: dict[str, np.ndarray] = {}
    image = images(ORDER, SIZE)
    caught: list[torch.Tensor] = []
    judges = {"d_main": discriminator.get_fc_discriminator(4), "d_feature": discriminator.get_df_discriminator(128)}
    layout = {name: shapes(judge) for name, judge in judges.items()}
    for name, judge in judges.items():
        weights = state_dict({f"{name}.{key}": shape for key, shape in layout[name].items()})
        judge.load_state_dict({key.removeprefix(f"{name}."): value for key, value in weights.items()})
    with torch.no_grad():
        full = network(4, "model")
        layout["model"] = shapes(full)
        full.unet.up1conv.register_forward_hook(lambda module, given, result: caught.append(result))
        output = full(image)
        keep(golden, "full", caught[-1])
        for subset in SUBSETS:
            columns = [i for i, code in enumerate(ORDER) if code in subset.split("+")]
            missing = network(len(columns), f"model_mono.{subset}")
            layout[f"model_mono.{subset}"] = shapes(missing)
            missing.unet.up1conv.register_forward_hook(lambda module, given, result: caught.append(result))
            output_mono = missing(image[:, columns])
            keep(golden, subset, caught[-1])
            if subset == "t1c":
                own, counts = output_mono, modules(missing, "model_mono.")
        counts |= {name: sum(p.numel() for p in judge.parameters()) for name, judge in judges.items()}
        counts["model.unet"] = sum(p.numel() for p in full.unet.parameters())
        target = torch.stack([(label(SIZE) == value).float() for value in (2, 1, 3)], dim=1)
        config = types.SimpleNamespace(consistency_type="mse", MODEL=types.SimpleNamespace(LOSS_WEIGHT_MONO=0.8))
        co = losses.unet_Co_loss(config, output[0], image, target, *output[1:4], own[0], image[:, 3:], *own[1:4], EPOCH)
        probabilities = {"full": F.softmax(output[0], dim=1), "missing": F.softmax(own[0], dim=1)}
        entropy = {key: judges["d_main"](losses.prob_2_entropy(value)) for key, value in probabilities.items()}
        features = {"full": judges["d_feature"](output[4]), "missing": judges["d_feature"](own[4])}

        def judged(scores: torch.Tensor, answer: float) -> float:
            return float(F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, answer)))

        values = {
            "dice_full": float(co["loss_dc"]),
            "dice_missing": float(co["loss_mono_dc"]),
            "consistency": float(co["consistency_loss"]),
            # As released: the features are their own target.
            "transfer": float(MI.Cal_MIloss(output[4], own[4], own[5], own[6])),
            "entropy_adversarial": judged(entropy["missing"], 0),
            "knowledge_adversarial": judged(features["missing"], 0),
            "entropy_discriminator": (judged(entropy["full"], 0) + judged(entropy["missing"], 1)) / 2,
            "knowledge_discriminator": (judged(features["full"], 0) + judged(features["missing"], 1)) / 2,
            "co_training": float(co["loss_Co"]),
        }
    golden |= {f"loss.{name}": np.array(value) for name, value in values.items()}
    golden["shapes"] = np.array(json.dumps(layout))
    return golden, counts


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
