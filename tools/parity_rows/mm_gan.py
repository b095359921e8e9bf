"""mm_gan: generator and discriminator; of the output, the missing sequences. Their slices are (x, y)."""

from __future__ import annotations

from typing import Any

import record_mm_gan
from parity import Golden, parameters

from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` of the generator | `official` | t1, t2, t1c, flair | over the brain's mean"


def row() -> Row:
    """Generator and discriminator; of the output, the missing sequences. Their slices are (x, y)."""
    golden = Golden("mm_gan")
    judge = {f"discriminator.{key}": value for key, value in golden.filled("discriminator").items()}
    method: Any = import_checkpoint("mm_gan", {**golden.filled("generator"), **judge})
    image = in_our_order(record_mm_gan.slices(), record_mm_gan.ORDER).transpose(2, 3).transpose(0, 1)[None]
    differences = {}
    for subset in record_mm_gan.SUBSETS:
        made = method.predict(image, GLIOMA.available(subset.split("+"))[None]).image[0].transpose(2, 3)
        missing = [GLIOMA.index(code) for code in record_mm_gan.ORDER if code not in subset.split("+")]
        differences[subset] = golden.difference(subset, made[missing].transpose(0, 1).contiguous())
    return record_mm_gan.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences
