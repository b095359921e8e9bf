"""Size of a network: told without memory, and refused before it is taken."""

import pytest
import torch

from anymri.errors import UserError
from anymri.methods import create, get_method
from anymri.protocol import size
from anymri.types import GLIOMA

UNET = get_method("unet")


def test_bytes_are_those_of_the_built_network():
    config = UNET.Config.build({"width": 6, "depth": 3})
    built = UNET(config, GLIOMA)
    held = sum(tensor.nbytes for tensor in (*built.parameters(), *built.buffers()))
    state = torch.get_rng_state()
    assert size.weights_bytes(UNET, config, GLIOMA) == held
    assert torch.equal(torch.get_rng_state(), state)  # weights that are drawn next are as without


@pytest.mark.parametrize(
    ("name", "config"),
    [("unet", {"width": 65_536, "max_width": 65_536}), ("hemis", {"width": 65_536})],
)
def test_a_network_beyond_all_memory_is_refused_with_its_settings(name, config):
    with pytest.raises(UserError, match=r"would take [\d,.]+ GiB of memory, and [\d.]+ GiB are free") as caught:
        create(name, **config)
    assert f"{next(iter(config))} = " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_published_sizes_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(size, "weights_bytes", lambda *given: pytest.fail("built twice"))
    create("unet", preset="tiny", width=8)
    create("unet", preset="paper")
    monkeypatch.undo()
    monkeypatch.setattr(size, "free_bytes", lambda: 10**6)
    with pytest.raises(UserError, match="width = 33"):
        create("unet", preset="tiny", width=33, depth=4)


def test_the_file_is_named_whose_settings_are_too_large(tmp_path, monkeypatch):
    create("unet", preset="tiny", width=33, depth=2).save(tmp_path / "m.safetensors")
    monkeypatch.setattr(size, "free_bytes", lambda: 10**4)
    with pytest.raises(UserError, match=rf"^{tmp_path}/m\.safetensors: the weights of unet would take"):
        UNET.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("name", "config"), [("acn", {"blocks": [1, 1]}), ("m3ae", {"blocks": [1, 1]})])
def test_settings_that_make_no_network_are_refused(name, config):
    with pytest.raises(UserError, match=f"make no network of {name}") as caught:
        create(name, preset="tiny", **config)
    assert "\n" not in str(caught.value)
