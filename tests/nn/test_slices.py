"""Slices as rows and back."""

import torch

from anymri.nn.slices import from_slices, to_slices


def test_slices_become_rows_in_order_and_come_back():
    image = torch.randn(2, 3, 5, 4, 6)
    slices = to_slices(image)
    assert slices.shape == (10, 3, 4, 6)
    assert torch.equal(slices[7], image[1, :, 2])
    assert torch.equal(from_slices(slices, 5), image)
