"""u_hved: all of it."""

from __future__ import annotations

import record_u_hved
from named_numbers import state_dict
from parity import Golden, parameters
from recorder import images

from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, any_subset

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` of the port | `port` | t1, t1c, t2, flair | z-score"


def row() -> Row:
    """All of it."""
    golden = Golden("u_hved")
    method = import_checkpoint("u_hved", state_dict(golden.shapes), "port")
    differences = any_subset(golden, method, images(GLIOMA.modalities, record_u_hved.SIZE), record_u_hved.SUBSETS)
    return f"port in {record_u_hved.REPOSITORY}", parameters(method), sum(golden.parameters.values()), differences
