"""Haar wavelets: closed forms, the round trip, and another implementation where it is installed."""

import numpy as np
import pytest
import torch

from anymri.nn.wavelet import LOW_DIVISOR, from_bands, haar, inverse_haar, to_bands


@pytest.fixture
def image():
    return torch.randn(2, 3, 6, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_there_and_back_is_the_image(image):
    torch.testing.assert_close(inverse_haar(haar(image)), image)
    torch.testing.assert_close(from_bands(to_bands(image)), image)


def test_lengths_are_kept(image):
    """Parseval: the transform only turns."""
    torch.testing.assert_close(haar(image).flatten(1).norm(dim=1), image.flatten(1).norm(dim=1))


def test_a_constant_is_all_in_the_low_band():
    bands = haar(torch.full((1, 1, 4, 4, 4), 2.0))
    torch.testing.assert_close(bands[:, :, 0], torch.full((1, 1, 2, 2, 2), 2.0 * 2**1.5))
    assert bands[:, :, 1:].abs().max() == 0
    torch.testing.assert_close(
        to_bands(torch.ones(1, 1, 2, 2, 2))[0, 0, 0], torch.full((1, 1, 1), 2**1.5 / LOW_DIVISOR)
    )


@pytest.mark.parametrize(("axis", "band"), [(2, 4), (3, 2), (4, 1)])
def test_an_edge_is_in_the_band_of_its_axis(axis, band):
    image = torch.zeros(1, 1, 2, 2, 2)
    image.narrow(axis, 0, 1).fill_(1.0)
    bands = haar(image)[0, 0].flatten()
    assert bands[band] == pytest.approx(2**0.5)
    assert bands[0] == pytest.approx(2**0.5)
    assert bands.abs().sum() == pytest.approx(2 * 2**0.5)


def test_every_band_is_that_of_pywavelets(image):
    pywt = pytest.importorskip("pywt")
    theirs = pywt.dwtn(image.numpy(), "haar", axes=(2, 3, 4))
    for band in range(8):
        letters = f"{band:03b}".replace("0", "a").replace("1", "d")
        np.testing.assert_allclose(haar(image)[:, :, band].numpy(), theirs[letters], atol=1e-12)
