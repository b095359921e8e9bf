"""Record what the authors' MAML computes from deterministic weights.

    python tests/golden/record_maml.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from named_numbers import sample, state_dict
from recorder import images, keep, label, modules, shapes, write
from torch import nn
from torch.nn import functional as F

REPOSITORY = "https://github.com/YaoZhang93/MAML"
COMMIT = "1d77d753f80f0434a7a06f43ad5c79bdef39359d"
#: The code has no order of its own; ours.
ORDER = ("t1", "t1c", "t2", "flair")
SIZE = 32
#: Channels of the finest level and halvings: of what is compared, and as trained.
SMALL, PUBLISHED = (8, 3), (16, 5)
#: Weights of the levels, as the trainer makes them.
LEVELS = 3


def build(code: types.ModuleType, base: int, halvings: int) -> nn.Module:
    """The network with the trainer's arguments."""
    return code.Generic_MAML(
        4, base, 4, halvings, 2, 2, nn.Conv3d, nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}, nn.Dropout3d,
        {"p": 0, "inplace": True}, nn.LeakyReLU, {"negative_slope": 1e-2, "inplace": True}, True, False, lambda x: x,
        code.InitWeights_He(1e-2), None, None, False, True, True,
    )  # fmt: skip


def import_code(authors: Path) -> tuple[types.ModuleType, types.ModuleType, types.ModuleType]:
    """Network and losses; the training toolkit that their modules import and this does not use is left out."""
    for name in (
        "batchgenerators", "batchgenerators.augmentations", "batchgenerators.augmentations.utils",
        "nnunet.utilities.random_stuff", "nnunet.utilities.to_torch",
    ):  # fmt: skip
        sys.modules[name] = types.ModuleType(name)
    sys.modules["batchgenerators.augmentations.utils"].pad_nd_image = None
    sys.modules["nnunet.utilities.random_stuff"].no_op = None
    sys.modules["nnunet.utilities.to_torch"].to_cuda = None
    sys.modules["nnunet.utilities.to_torch"].maybe_to_torch = None
    sys.path.insert(0, str(authors))
    from nnunet.network_architecture import generic_MAML
    from nnunet.training.loss_functions import deep_supervision, dice_loss

    return generic_MAML, dice_loss, deep_supervision


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' network and loss."""
    code, losses, supervision = import_code(authors)
    network = build(code, *SMALL).eval()
    layout = shapes(network)
    filled = state_dict({f"network.{name}": shape for name, shape in layout.items()})
    network.load_state_dict({name.removeprefix("network."): value for name, value in filled.items()})
    caught: dict[str, torch.Tensor] = {}
    for number, gate in enumerate(network.modality_aware_modules):
        gate.register_forward_hook(lambda module, given, result, key=f"gate{number}": caught.update({key: result}))
    network.fusion.register_forward_hook(lambda module, given, result: caught.update(joint=result))
    target = torch.cat([label(SIZE), label(SIZE).flip(1)])
    image = torch.cat([images(ORDER, SIZE), images(ORDER, SIZE).flip(2)])
    with torch.no_grad():
        scores = network(image)
    golden: dict[str, np.ndarray] = {"shapes": np.array(json.dumps({"network": layout}))}
    keep(golden, "joint", scores[0])
    for number, code_name in enumerate(ORDER):
        keep(golden, code_name, scores[1 + LEVELS * number])
    golden["t2.gate"] = sample(caught["gate2"])
    keep(golden, "h0", caught["joint"])
    goals = [
        F.interpolate(target[:, None].float(), size=s.shape[2:], mode="nearest-exact") for s in scores[1 : 1 + LEVELS]
    ]
    weights = np.array([1 / 2**level for level in range(LEVELS - 1)] + [0.0])
    weights /= weights.sum()
    loss = losses.DC_and_CE_loss({"batch_dice": False, "smooth": 1e-5, "do_bg": False}, {})
    goal_list, weight_list = [goals[0], *(goals * 4)], np.append(weights[0], np.tile(weights, 4))
    total = supervision.MultipleOutputLoss2(loss, weight_list)
    joint = supervision.MultipleOutputLoss2(loss, weight_list[:1])
    dice, entropy = losses.SoftDiceLoss(losses.softmax_helper, False, False, 1e-5), losses.RobustCrossEntropyLoss()
    values = {
        "total": total(scores, goal_list),
        "joint": joint(scores[:1], goal_list[:1]),
        "joint_dice": weights[0] * dice(scores[0], goals[0]),
        "joint_cross_entropy": weights[0] * entropy(scores[0], goals[0][:, 0].long()),
        "alone_dice": sum(w * dice(s, g) for w, s, g in zip(weight_list[1:], scores[1:], goal_list[1:], strict=True)),
        "alone_cross_entropy": sum(
            w * entropy(s, g[:, 0].long()) for w, s, g in zip(weight_list[1:], scores[1:], goal_list[1:], strict=True)
        ),
    }
    golden |= {f"loss.{name}": np.array(float(value)) for name, value in values.items()}
    return golden, modules(build(code, *PUBLISHED))


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
