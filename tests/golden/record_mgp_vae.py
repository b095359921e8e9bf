"""Record what the authors' parts of MGP-VAE compute from deterministic weights.

    python tests/golden/record_mgp_vae.py --authors PATH

PATH holds a working copy of the repository; nothing of it is kept but its numbers and names.
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

REPOSITORY = "https://github.com/hamghalam/MGP-VAE"
COMMIT = "47d032870b0b94ef08af529b1fb638f1010b408c"
#: Slices, codes, subjects, sequences and length of an embedding of the recording.
SLICES, CODES, SUBJECTS, SEQUENCES, LENGTH, LATENT = 2, 12, 5, 4, 6, 7
#: Logarithms of the process's variance shares.
LOG_SHARES = (0.4, -0.3)


def inputs() -> dict[str, torch.Tensor]:
    """What both implementations are given."""
    return {
        "image": numbers("image", (SLICES, 3, 128, 128)) * 100,
        "noise": numbers("noise", (SLICES, 256)) * 16,
        "slices": numbers("slices", (SUBJECTS, LENGTH)),
        "sequences": numbers("sequences", (SEQUENCES, SEQUENCES)),
        "codes": numbers("codes", (CODES, LATENT)) * LATENT**0.5,
        "subject": torch.arange(CODES) % SUBJECTS,
        "sequence": torch.arange(CODES) % SEQUENCES,
    }


def record(authors: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Run the authors' auto-encoder, features and process."""
    sys.path.insert(0, str(authors / "pysrc" / "brain"))
    for unused in ("pylab", "h5py"):
        sys.modules[unused] = types.ModuleType(unused)
    torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign, assignment]
    from gp import GP
    from vae import MriVAE
    from vmod import Vmodel

    given = inputs()
    golden: dict[str, np.ndarray] = {}
    network = MriVAE(vy=2e-3).eval()
    layout = {name: shape for name, shape in shapes(network).items() if name != "vy"}
    weights = {name: numbers(f"vae.{name}", tuple(shape)) for name, shape in layout.items()}
    network.load_state_dict({**weights, "vy": torch.tensor([2e-3])})
    with torch.no_grad():
        mean, deviation = network.encode(given["image"])
        golden |= {"mean": mean.numpy(), "deviation": deviation.numpy()}
        keep(golden, "vae", network.decode(mean + given["noise"] * deviation))
        elbo, error, likelihood, divergence = network(given["image"], given["noise"])
    vmodel = Vmodel(SUBJECTS, SEQUENCES, LENGTH, SEQUENCES)
    vmodel.x0.data, vmodel.v0.data = given["slices"], given["sequences"]
    features = vmodel(given["subject"], given["sequence"]).detach()
    process = GP()
    process.lvs.data = torch.tensor(LOG_SHARES)
    by_code, by_feature, by_share, nll = process.taylor_coeff(given["codes"], [features])
    expansion = process.taylor_expansion(given["codes"], [features], by_code, by_feature, by_share).detach()
    golden |= {"features": features.numpy(), "by_code": by_code.numpy(), "by_feature": by_feature[0].numpy()}
    golden |= {"by_share": by_share.numpy(), "nll": nll.numpy(), "expansion": expansion.numpy()}
    values = {"elbo": elbo, "error": error, "likelihood": likelihood, "divergence": divergence}
    golden |= {f"loss.{name}": np.array(float(value.mean())) for name, value in values.items()}
    golden["shapes"] = np.array(json.dumps({"vae": layout}))
    return golden, {"vae": sum(p.numel() for p in network.parameters())}


if __name__ == "__main__":
    write(__file__, REPOSITORY, COMMIT, record)
