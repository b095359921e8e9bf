"""MGP-VAE: the authors' numbers, the process by dense algebra, and completion from sums over all codes."""

import math

import pytest
import record_mgp_vae as recording
import torch
from conftest import build_preset, make_batch, run_turns
from parity import Golden, parameters
from torch.nn import functional as F

from anymri.errors import UserError
from anymri.methods.mgp_vae import MGPVAE, standard_divergence
from anymri.nn.gaussian_process import GaussianProcess, Statistics, expand
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
NARROW = {"size": 16, "steps": 2, "latent": 8, "embedding": 3, "slices": 64, "width": 8}


def build(**config):
    return build_preset(MGPVAE, "tiny", **{**NARROW, **config}).eval()


def sums(features, codes):
    number = torch.tensor(float(len(codes)), dtype=codes.dtype)
    return Statistics(features.T @ features, features.T @ codes, (codes**2).sum(), number)


def dense_likelihood(process, codes, features):
    """Of all codes together, without the constant, from the covariance itself."""
    first, rest = process.shares().to(codes)
    covariance = first * features @ features.T + rest * torch.eye(len(codes)).to(codes)
    quadratic = (codes * torch.linalg.solve(covariance, codes)).sum()
    return 0.5 * quadratic + 0.5 * codes.shape[1] * torch.logdet(covariance)


@pytest.fixture
def known():
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(50, 6, generator=generator, dtype=torch.float64), dim=1)
    codes = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    process = GaussianProcess()
    with torch.no_grad():
        process.log_shares.copy_(torch.tensor([0.5, -0.7]))
    return process, codes, features


# -------------------------------------------------------------------------------------------------- the authors' code


@pytest.fixture(scope="module")
def golden():
    return Golden("mgp_vae")


@pytest.fixture(scope="module")
def imported(golden):
    return MGPVAE.import_state_dict(golden.filled("vae"), "official")


def test_codes_slices_and_losses_are_the_authors(golden, imported):
    network, given = imported.auto_encoder, recording.inputs()
    assert parameters(network) == golden.parameters["vae"] - 1 == 553_303
    with torch.inference_mode():
        mean, deviation = network.encode(given["image"])
        made = network.decode(mean + given["noise"] * deviation)
    for name, value in (("mean", mean), ("deviation", deviation)):
        expected = torch.from_numpy(golden.values[name])
        assert (value - expected).abs().max() <= 1e-4 * expected.std()
    assert golden.difference("vae", made) <= 1e-4
    expected, variance = golden.losses(), imported.config.variance
    error = ((made - given["image"]) ** 2).mean().item()
    divergence = standard_divergence(mean, deviation).mean().item() / (3 * 128**2)
    assert variance == 2e-3
    assert error == pytest.approx(expected["error"], rel=1e-4)
    assert error / (2 * variance) + 0.5 * math.log(variance) == pytest.approx(expected["likelihood"], rel=1e-4)
    assert divergence == pytest.approx(expected["divergence"], rel=1e-4)


def test_features_and_taylor_coefficients_are_the_authors(golden):
    given, values = recording.inputs(), golden.values
    network = build(embedding=recording.LENGTH, latent=recording.LATENT)
    with torch.no_grad():
        network.embeddings.sequences.copy_(given["sequences"])
        network.process.log_shares.copy_(torch.tensor(recording.LOG_SHARES))
        ours = network.embeddings.features(given["slices"][given["subject"]], given["sequence"])
    # Theirs has the slice's part first.
    theirs = torch.from_numpy(values["features"])
    features = ours.unflatten(1, (4, -1)).transpose(1, 2).flatten(1)
    torch.testing.assert_close(features, theirs, atol=1e-6, rtol=1e-5)
    codes, features = given["codes"].double(), theirs.double()
    known = sums(features, codes)
    found = network.process.coefficients(codes, features, known)
    expansion = expand(found, codes, features, network.process.shares().double(), known.number)
    for name, value in (
        ("by_code", found.codes), ("by_feature", found.features), ("by_share", found.shares),
        ("nll", found.likelihood[:, None]), ("expansion", expansion[:, None]),
    ):  # fmt: skip
        expected = torch.from_numpy(values[name]).double()
        assert (value.detach() - expected).abs().max() <= 1e-4 * expected.std(), name


# ----------------------------------------------------------------------------------------------------- the process


def test_the_likelihood_from_sums_is_the_dense_one(known):
    process, codes, features = known
    found = process.coefficients(codes, features, sums(features, codes)).likelihood.sum()
    torch.testing.assert_close(found, dense_likelihood(process, codes, features).detach())


def test_the_expansion_has_the_gradients_of_the_dense_likelihood(known):
    process, codes, features = known
    codes.requires_grad_()
    features.requires_grad_()
    inputs = [codes, features, process.log_shares]
    coefficients = process.coefficients(codes.detach(), features.detach(), sums(features.detach(), codes.detach()))
    linear = expand(coefficients, codes, features, process.shares().double(), torch.tensor(50.0)).sum()
    exact = torch.autograd.grad(dense_likelihood(process, codes, features), inputs)
    for ours, theirs in zip(torch.autograd.grad(linear, inputs), exact, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_without_features_the_prior_is_that_of_a_plain_auto_encoder():
    network = build()
    batch = make_batch((8, 16, 16), ALL, ALL)
    with torch.no_grad():
        network.process.log_shares.copy_(torch.tensor([-40.0, 40.0]))
        coded = network._code(batch, torch.Generator())
        number = torch.tensor(float(len(coded.sample)), dtype=torch.float64)
        rank = network.gram.shape[0]
        network.gram, network.cross = torch.zeros(rank, rank).double(), torch.zeros(rank, 8).double()
        network.square, network.count = (coded.sample.double() ** 2).sum(), number
        found = network._process_divergence(coded, torch.zeros(len(coded.sample), rank))
    expected = 0.5 * (coded.sample**2).sum(dim=1) - coded.deviation.log().sum(dim=1) - 4
    torch.testing.assert_close(found.float(), expected, atol=1e-4, rtol=1e-4)


def test_completion_is_the_dense_posterior_given_all_codes(known):
    process, codes, features = known
    generator = torch.Generator().manual_seed(1)
    seen, wanted = torch.randn(2, 4, 2, 6, generator=generator, dtype=torch.float64)
    own = torch.randn(4, 2, 3, generator=generator, dtype=torch.float64)
    found = process.complete(sums(features, codes), seen, own, wanted).detach()
    first, rest = process.shares().double().detach()
    for row in range(4):
        every, values = torch.cat([features, seen[row]]), torch.cat([codes, own[row]])
        covariance = first * every @ every.T + rest * torch.eye(52).double()
        expected = first * wanted[row] @ every.T @ torch.linalg.solve(covariance, values)
        torch.testing.assert_close(found[row], expected)


def test_the_code_of_a_sequence_that_is_just_like_a_shown_one_is_its_code():
    network = build()
    with torch.no_grad():
        network.embeddings.sequences[3] = network.embeddings.sequences[0]
        network.process.log_shares.copy_(torch.tensor([20.0, 0.0]))
        codes = torch.randn(5, 1, 8)
        found = network.complete_codes(codes, GLIOMA.available(("t1",)))
    torch.testing.assert_close(found[:, 2], codes[:, 0], atol=1e-4, rtol=1e-3)


def test_with_nothing_learned_unlike_sequences_are_predicted_at_the_mean():
    network = build(likeness=0.0)
    with torch.no_grad():
        network.embeddings.sequences.copy_(torch.eye(4))
        found = network.complete_codes(torch.randn(5, 1, 8), GLIOMA.available(("t1",)))
    torch.testing.assert_close(found, torch.zeros(5, 3, 8))


def test_likeness_is_the_cosine_of_two_sequences_before_training():
    cosine = F.normalize(build(likeness=0.5).embeddings.sequences, dim=1)
    torch.testing.assert_close(cosine @ cosine.T, 0.5 + 0.5 * torch.eye(4), atol=0.02, rtol=0)


# ------------------------------------------------------------------------------------------------------- the claims


def test_other_subjects_help_to_complete():
    """The claim: a rule between sequences that holds in the training is carried over to a new slice."""
    network = build(ridge=1e-3)
    generator = torch.Generator().manual_seed(0)
    slices = torch.randn(40, 3, generator=generator).double()
    rule = torch.randn(4, 3, 8, generator=generator).double()
    with torch.no_grad():
        network.process.log_shares.copy_(torch.tensor([6.0, 0.0]))
        unit = F.normalize(slices, dim=1)
        codes = torch.einsum("ne,qel->nql", unit, rule)
        features = network._features(unit, torch.arange(4)).flatten(0, 1)
        stated = sums(features[: 39 * 4], codes[:39].flatten(0, 1))
        known, target = codes[39:, :2].float(), codes[39:, 2:].float()
        shown = torch.tensor([True, True, False, False])
        before = network.complete_codes(known, shown)
        network.gram, network.cross, network.square, network.count = stated
        after = network.complete_codes(known, shown)
    assert (after - target).abs().max() < 0.2 * target.std()
    assert (before - target).abs().mean() > 0.5 * target.std()


def test_stages_train_what_they_name_and_terms_are_those_by_hand():
    network = build()
    results = run_turns(network, make_batch((8, 16, 16), ALL, ALL))
    parts = {turn: {key.partition(".")[0] for key in result["gradients"]} for turn, result in results.items()}
    assert parts == {"vae.main": {"auto_encoder"}, "gp.main": {"auto_encoder", "process", "embeddings"}}
    assert int(network.count) == 32
    with torch.no_grad():
        coded = network._code(make_batch((8, 16, 16), ALL, ALL), torch.Generator().manual_seed(2))
        error = ((network.auto_encoder.decode(coded.sample) - coded.slices) ** 2).mean().item()
        mean, variance = coded.mean, coded.deviation**2
    plain = results["vae.main"]["output"]
    assert plain.logs["reconstruction"].item() == pytest.approx(error / 0.004, rel=1e-4)
    divergence = 0.5 * (mean**2 + variance - 1 - variance.log()).sum(dim=1).mean().item() / 256
    assert plain.logs["divergence"].item() == pytest.approx(divergence, rel=1e-4)
    assert plain.loss.item() == pytest.approx(error / 0.004 + divergence, rel=1e-4)
    assert network.first_row.tolist() == [0, 8]
    rows = results["gp.main"]["gradients"]["embeddings.slices"].abs().sum(dim=1) > 0
    assert rows.nonzero().flatten().tolist() == list(range(8))


def test_the_entropy_as_released():
    batch = make_batch((8, 16, 16), ALL, ALL)
    values = {}
    for entropy in ("log", "released"):
        network = build(entropy=entropy)
        run_turns(network, batch)
        coded = network._code(batch, torch.Generator().manual_seed(0))
        values[entropy] = network._process_divergence(coded, network._features_of(batch)).detach()
    difference = coded.deviation.log().sum(dim=1) + 4 - 0.5 * coded.deviation.sum(dim=1)
    torch.testing.assert_close((values["released"] - values["log"]).float(), difference.detach(), atol=1e-3, rtol=1e-3)


def test_too_many_slices_are_refused_in_words():
    with pytest.raises(UserError, match=r"training subjects have 8 slices; set method.config.slices so high"):
        run_turns(build(slices=4), make_batch((8, 16, 16), ALL, ALL))
