"""smu_net: both paths and the discriminator."""

from __future__ import annotations

import record_smu_net
from parity import Golden, parameters
from recorder import images

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, in_our_order, one_network

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "the whole checkpoint | `official:<subset>` | available first; flair, t1, t1c, t2 | range to [0, 1]"


def row() -> Row:
    """Both paths and the discriminator."""
    golden = Golden("smu_net")
    entries = {name: golden.filled(name) for name in ("model_full", "model_missing", "d_style")}
    method = import_checkpoint("smu_net", entries, "official:flair+t1c")
    image = in_our_order(images(record_smu_net.ORDER, record_smu_net.SIZE), record_smu_net.ORDER)
    differences = one_network(golden, method, image, "t1c+flair", "model_missing")
    return record_smu_net.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences
