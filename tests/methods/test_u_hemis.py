"""U-HeMIS: the published size, and moments of what is there."""

import pytest
import torch
from conftest import make_batch, run_turns

from anymri.methods import create
from anymri.types import GLIOMA, Head

SIZE = (16, 16, 16)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create("u_hemis", preset="tiny").eval()


def test_published_size():
    with torch.device("meta"):
        network = create("u_hemis")
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_096_848
    assert network.config.slope == 0.02
    assert network.encoders["t1"].levels[0][0].norm.eps == 1e-6
    assert network.stages[0].epochs * network.stages[0].steps_per_epoch == 60_000


def test_kernels_start_by_the_rule_of_the_authors_framework(network):
    kernels = [part.weight for part in network.modules() if isinstance(part, torch.nn.Conv3d)]
    standard = torch.cat([(kernel * (kernel[0].numel() / 2) ** 0.5).flatten() for kernel in kernels])
    assert standard.std().item() == pytest.approx(1, abs=0.01)


def test_an_encoder_runs_on_all_rows_or_not_at_all(network):
    rows = []
    for code, encoder in network.encoders.items():
        encoder.register_forward_hook(lambda module, args, output, code=code: rows.append((code, len(args[0]))))
    available = torch.tensor([[True, False, False, False], [False, False, True, False]])
    image = torch.where(available[..., None, None, None], torch.randn(2, 4, *SIZE), torch.nan)
    features = network.encode(image, available)
    assert rows == [("t1", 2), ("t2", 2)]
    assert list(features) == ["t1", "t2"]
    assert all(level.isfinite().all() for levels in features.values() for level in levels)


def test_exchanging_two_modalities_with_their_encoders_changes_nothing(network):
    image = torch.randn(1, 4, *SIZE)
    everything = torch.ones(1, 4, dtype=torch.bool)
    with torch.inference_mode():
        before = network.predict(image, everything).logits
        exchanged = image[:, [1, 0, 2, 3]]
        assert not torch.allclose(network.predict(exchanged, everything).logits, before, atol=1e-3)
        encoders = network.encoders
        encoders["t1"], encoders["t1c"] = encoders["t1c"], encoders["t1"]
        torch.testing.assert_close(network.predict(exchanged, everything).logits, before, atol=1e-5, rtol=1e-4)


def test_the_decoder_starts_from_mean_and_variance_of_what_is_shown_at_every_level(network, monkeypatch):
    seen = []
    monkeypatch.setattr(network.decoder, "forward", seen.append)
    features = network.encode(torch.randn(1, 4, *SIZE), torch.ones(1, 4, dtype=torch.bool))
    for subset in (("t1",), ("flair",), ("t1", "flair")):
        network.decode(features, GLIOMA.available(subset)[None])
    assert [len(levels) for levels in seen] == [4, 4, 4]
    for t1, flair, *moments in zip(features["t1"], features["flair"], *seen, strict=True):
        first, second, both = (level.chunk(2, dim=1) for level in moments)
        assert torch.equal(first[0], t1)
        assert torch.equal(second[0], flair)
        assert (first[1] == 0).all()
        assert (second[1] == 0).all()
        torch.testing.assert_close(both[0], (t1 + flair) / 2)
        torch.testing.assert_close(both[1], ((t1 - flair) / 2) ** 2)


def test_loss_is_the_sum_of_the_published_terms(network):
    everything = torch.ones(1, 4, dtype=torch.bool)
    batch = make_batch(SIZE, everything, everything)
    output = run_turns(network, batch)["train.main"]["output"]
    assert list(output.logs) == ["cross_entropy", "dice", "l2"]
    assert output.loss.item() == pytest.approx(sum(value.item() for value in output.logs.values()), abs=1e-6)
    logits = network.predict(batch.image, everything).logits.detach()
    p, g = (
        logits.softmax(1).double(),
        Head("softmax", ("background", "ncr", "edema", "et")).target(batch.label).double(),
    )
    entropy = -(g * p.log()).sum(1).mean()
    dice = sum((2 * (p * g)[0, c].sum() + 1e-5) / ((p * p)[0, c].sum() + g[0, c].sum() + 1e-5) for c in range(4)) / 4
    assert output.logs["cross_entropy"].item() == pytest.approx(entropy.item(), abs=1e-4)
    assert output.logs["dice"].item() == pytest.approx(1 - dice.item(), abs=1e-4)
