"""MMCFormer: the authors' numbers, linear attention, and what the paths share."""

import pytest
import record_mmcformer as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.errors import UserError
from anymri.methods import StepContext
from anymri.methods.mmcformer import MMCFormer, MMCFormerConfig, contextual_agreement
from anymri.nn.efficient_attention import EfficientAttention, EnlargeTokens
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(recording.SUBSET.split("+"))[None]
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]
#: Places of the authors' channels among ours: edema, ncr, et, background.
TO_THEIRS = [1, 0, 2, 3]


@pytest.fixture(scope="module")
def golden():
    return Golden("mmcformer")


@pytest.fixture(scope="module")
def imported(golden):
    entries = {name: golden.filled(name) for name in ("model_full", "model_missing")}
    return MMCFormer.import_state_dict(entries, f"official:{recording.SUBSET}")


@pytest.fixture
def network():
    return build_preset(MMCFormer, "tiny", subset="t1c+flair").eval()


# -------------------------------------------------------------------------------------------------- the authors' code


def test_the_paths_have_the_authors_size(golden):
    with torch.device("meta"):
        network = MMCFormer(MMCFormerConfig(subset=recording.SUBSET))
    assert parameters(network.full) + parameters(network.reconstruction) == golden.parameters["model_full"]
    assert parameters(network.missing) == golden.parameters["model_missing"]


def test_logits_are_the_authors(golden, imported):
    # Theirs holds arrays (z, x, y).
    image = recording.window()[:, TO_OURS].transpose(3, 4)
    with torch.inference_mode():
        for name, logits in (("model_full", imported.full(image).logits), ("model_missing", None)):
            logits = imported.predict(image, OWN).logits if logits is None else logits
            assert golden.difference(name, logits[:, TO_THEIRS].transpose(3, 4)) <= 1e-4, name
        swapped = imported.full(image[:, [1, 0, 2, 3]]).logits[:, TO_THEIRS].transpose(3, 4)
        assert golden.difference("model_full", swapped) > 1e-2


def test_losses_are_the_authors(golden, imported):
    batch = make_batch(recording.SIZE, ALL, OWN)._replace(
        image=recording.window()[:, TO_OURS].transpose(3, 4), label=recording.truth().transpose(2, 3)
    )
    with torch.inference_mode():
        output = imported.training_step(batch, StepContext(imported.stages[0], progress=0.5))
    expected = golden.losses()
    expected["consistency"] /= 10  # theirs has the weight in it
    assert set(output.logs) == set(expected)
    for name, value in expected.items():
        assert float(output.logs[name]) == pytest.approx(value, rel=1e-4), name
    weights = {
        "dice_full": 0.4, "dice_missing": 0.6, "consistency": 10, "msca": 0.01, "msp": 0.005, "reconstruction": 0.01,
    }  # fmt: skip
    total = sum(weight * expected[name] for name, weight in weights.items())
    assert float(output.loss) == pytest.approx(total, rel=1e-4)


def test_foreign_sources_are_refused():
    with pytest.raises(UserError, match="unknown source 'paper' of mmcformer weights"):
        MMCFormer.import_state_dict({}, "paper")


# ------------------------------------------------------------------------------------------------------- the claims


def test_perceptrons_start_by_xavier_in_decoders_and_as_torch_does_in_encoders(network):
    paths = (network.full, network.missing)
    decoding = [block for path in paths for blocks in path.blocks for block in blocks]
    for block in (*decoding, network.reconstruction.block):
        for layer in (block.expand, block.shrink):
            bound = (6 / sum(layer.weight.shape)) ** 0.5  # torch's differs, more so behind the wide side
            assert 0.9 * bound < layer.weight.abs().max() <= bound
            assert not layer.bias.any()
    encoding = [block for path in paths for level in path.encoder.levels for block in level.blocks]
    assert len(encoding) == 12
    assert all(layer.bias.any() for block in encoding for layer in (block.expand, block.shrink))


def test_levels_have_the_published_shapes():
    with torch.device("meta"):
        network = MMCFormer(MMCFormerConfig(subset="t1c"))
        features, contexts, prompts = network.missing.encoder(torch.zeros(1, 1, 128, 192, 160))
    assert [tuple(x.shape[1:]) for x in features] == [(32, 48, 40, 64), (16, 24, 20, 128), (8, 12, 10, 320)]
    assert [tuple(x.shape[1:]) for x in contexts] == [(64, 64), (64, 64), (128, 128), (128, 128)]
    assert tuple(prompts.shape) == (1, 4, 320)


def test_efficient_attention_equals_attention_over_all_pairs():
    layer = EfficientAttention(6)
    tokens, prompts = torch.randn(2, 10, 6), torch.randn(2, 3, 6)
    given, _, moved = layer(tokens, prompts)
    keys, queries, values = (
        torch.cat([prompts, part(tokens)], dim=1) for part in (layer.keys, layer.queries, layer.values)
    )
    pairs = torch.einsum("bic,bjc->bij", queries.softmax(dim=2), keys.softmax(dim=1))
    expected = pairs @ values
    torch.testing.assert_close(moved, expected[:, :3])
    torch.testing.assert_close(given, layer.project(expected[:, 3:]))


def test_the_context_does_not_depend_on_the_order_of_tokens():
    layer, tokens = EfficientAttention(6), torch.randn(1, 10, 6)
    torch.testing.assert_close(layer(tokens[:, torch.randperm(10)])[1], layer(tokens)[1])


def test_enlarged_tokens_lie_beside_each_other():
    layer = EnlargeTokens(8, 4, 2)
    x = torch.zeros(1, 2, 3, 4, 8)
    x[0, 1, 2, 0] = torch.randn(8)
    torch.nn.init.normal_(layer.expand.weight)
    touched = (layer(x) != layer(torch.zeros_like(x))).any(dim=-1)[0].nonzero()
    assert touched.min(0).values.tolist() == [2, 4, 0]
    assert touched.max(0).values.tolist() == [3, 5, 1]


def test_the_agreement_is_between_0_and_twice_its_weights():
    contexts = [torch.randn(2, 4, 4) for _ in range(4)]
    weights = MMCFormerConfig().context_weights
    opposite = [-context for context in contexts]
    assert float(contextual_agreement(contexts, contexts, weights)) == pytest.approx(0, abs=1e-6)
    assert 0.01 * float(contextual_agreement(contexts, opposite, weights)) == pytest.approx(0.028)


def test_prediction_needs_the_missing_path_alone(network):
    image = torch.randn(1, 4, 16, 16, 16)
    with torch.inference_mode():
        before = network.predict(image, OWN).logits
        for part in (network.full, network.reconstruction):
            for parameter in part.parameters():
                parameter.fill_(torch.nan)
        assert torch.equal(network.predict(image, OWN).logits, before)
