"""The way back to the grid of the input."""

import numpy as np
import torch

from anymri.data.lattice import NATIVE, Lattice
from anymri.inference.restore import restore_image


def test_the_rim_of_the_brain_is_not_darkened_and_nothing_lies_outside():
    brain = torch.zeros(6, 8, 8, dtype=torch.bool)
    brain[1:5, 2:6, 2:6] = True
    native_brain = np.zeros((12, 16, 16), bool)
    native_brain[2:10, 4:12, 4:12] = True
    restored = restore_image(torch.where(brain, 2.5, 0.0), brain, Lattice(step=(2, 2, 2)), native_brain, NATIVE)
    assert restored.shape == native_brain.shape
    np.testing.assert_allclose(restored[native_brain], 2.5, rtol=1e-3)
    assert (restored[~native_brain] == 0).all()
