"""No method of the table takes anything from voxels that nobody labelled."""

from __future__ import annotations

import pytest
import torch
from conftest import CASES, make_batch, run_turns

from anymri.testing.batches import size_for
from anymri.testing.candidate import Candidate
from anymri.testing.training_run import incomplete
from anymri.types import GLIOMA, DataSpec

SPEC = DataSpec(GLIOMA.modalities, GLIOMA.labels, GLIOMA.regions, ignore=9)


@pytest.mark.parametrize("name", ["hemis", "m3ae", "nnunet_per_subset", "rfnet", "unet", "unet-completing"])
def test_every_turn_learns_from_what_is_labelled_alone(name):
    """One method of each loss; the others share theirs."""
    method = Candidate(*CASES[name]).build(SPEC)
    batch = make_batch(size_for(method), *incomplete(method), SPEC)
    label = batch.label.clone()
    label[:, : label.shape[1] // 3] = 9
    found = run_turns(method, batch._replace(label=label))
    for values in found.values():
        assert values["output"].loss is None or torch.isfinite(values["output"].loss)
        assert all(torch.isfinite(gradient).all() for gradient in values["gradients"].values())
