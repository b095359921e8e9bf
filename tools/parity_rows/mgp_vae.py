"""mgp_vae: the auto-encoder, from slices to slices with fixed noise."""

from __future__ import annotations

import record_mgp_vae
from parity import Golden, parameters

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "weights of the auto-encoder | `official` | three equal colours | range to [0, 1]"


def row() -> Row:
    """The auto-encoder."""
    golden = Golden("mgp_vae")
    network = import_checkpoint("mgp_vae", golden.filled("vae"), "official").auto_encoder
    given = record_mgp_vae.inputs()
    mean, deviation = network.encode(given["image"])
    difference = golden.difference("vae", network.decode(mean + given["noise"] * deviation))
    # Theirs counts the constant variance of a pixel.
    return record_mgp_vae.REPOSITORY, parameters(network), golden.parameters["vae"] - 1, {"all sequences": difference}
