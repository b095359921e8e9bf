"""cwdm: samples of four steps with recorded noise for three targets; counted at the published size."""

from __future__ import annotations

from typing import Any

import record_cwdm
import torch
from parity import Golden, parameters

from anymri.methods import create
from anymri.methods.authors._wavelet_unet import THEIR_BANDS
from anymri.protocol.noise import Noise
from anymri.protocol.request import Request
from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = (
    "`brats_*.pt` | `official:<target>` | t1, t1c, t2, flair without it | [0, 1] between the quantiles 0.1 and 99.9 %"
)


class _Recorded(Noise):
    """The numbers that were recorded with."""

    def normal(self, name: str, *_: Any, **__: Any) -> torch.Tensor:
        return record_cwdm.bands_of_noise(name)[:, THEIR_BANDS].transpose(2, 4)


def row() -> Row:
    """Samples of four steps with recorded noise for three targets, of a smaller network."""
    golden = Golden("cwdm")
    image = torch.cat([record_cwdm.images()[code] for code in GLIOMA.modalities], dim=1).transpose(2, 4)
    differences = {}
    for target in record_cwdm.TARGETS:
        method: Any = import_checkpoint("cwdm", golden.filled("network"), f"official:{target}")
        request = Request(noise=_Recorded([0]), steps=len(record_cwdm.TIMES))
        made = method.predict(image, ~GLIOMA.available([target])[None], request=request).image
        differences[target] = golden.difference(
            f"{target}.sampled", made[:, GLIOMA.index(target), None].transpose(2, 4)
        )
    with torch.device("meta"):
        published = parameters(create("cwdm"))
    return record_cwdm.REPOSITORY, published, golden.parameters["published"], differences
