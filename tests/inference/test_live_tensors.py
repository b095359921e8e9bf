"""Live tensors: windows that do not fit into memory are refused before the first one."""

import pytest

from anymri.errors import UserError
from anymri.inference import live_tensors
from anymri.inference.live_tensors import check_window
from anymri.methods import create

MEBI = 2**20


@pytest.fixture
def unet():
    return create("unet", preset="tiny").eval()


def test_images_beyond_all_memory_are_refused_unmeasured(unet, monkeypatch):
    monkeypatch.setattr(live_tensors, "_window_bytes", lambda *given: pytest.fail("measured"))
    with pytest.raises(UserError, match=r"window 4096x4096x4096, 2 at a time: takes about [\d,.]+ GiB"):
        check_window(unet, (4096, 4096, 4096), 2)
    check_window(unet, (32, 32, 32), 2)


@pytest.mark.parametrize("name", ["unet", "nnunet_per_subset"])
def test_two_small_windows_foretell_a_large_one(name, monkeypatch):
    method = create(name, preset="tiny").eval()
    real = live_tensors._window_bytes(method, (48, 48, 48), next(method.parameters()).device)
    monkeypatch.setattr(live_tensors, "free_bytes", lambda: 5 * MEBI)
    with pytest.raises(UserError) as caught:
        check_window(method, (48, 48, 48), 1)
    told = float(str(caught.value).partition("about ")[2].partition(" GiB")[0])
    assert told == pytest.approx(real / 2**30, abs=0.06)
    monkeypatch.setattr(live_tensors, "free_bytes", lambda: real)
    check_window(method, (48, 48, 48), 1)
