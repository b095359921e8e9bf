from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import pytest
import torch
from scipy.stats import chisquare

from anymri.data.samplers import SAMPLERS, make_sampler
from anymri.types import DataSpec, UserError

DRAWS = 20_000
DROP_WEIGHTS = {1: (1.0,), 2: (0.5, 0.5), 3: (0.5, 0.3, 0.2), 4: (0.5, 0.3, 0.15, 0.05)}


def nonempty(codes: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [subset for size in range(1, len(codes) + 1) for subset in combinations(codes, size)]


def bernoulli(n: int, size: int, keep: float) -> float:
    repaired = (1 - keep) ** n / n if size == 1 else 0
    return keep**size * (1 - keep) ** (n - size) + repaired


#: Closed-form probability of one subset of `size` out of n present, at progress 0.3.
PROBABILITY: dict[str, Callable[[int, int], float]] = {
    "uniform_subset": lambda n, size: 1 / (2**n - 1),
    "size_then_subset": lambda n, size: 1 / n / comb(n, size),
    "bernoulli_repair": lambda n, size: bernoulli(n, size, 0.5),
    "drop_count": lambda n, size: DROP_WEIGHTS[n][n - size] / comb(n, size),
    "drop_count_effective": lambda n, size: 1 / n / comb(n, size),
    "curriculum": lambda n, size: bernoulli(n, size, 1 - 1e-5 ** (0.9**30)),
}


def draw(name: str, present: list[bool], progress: float = 0.3, seed: int = 0) -> torch.Tensor:
    rows = torch.tensor(present).expand(DRAWS, -1).contiguous()
    return SAMPLERS[name](rows, progress, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("present", [[True] * 4, [True, False, True, True], [False, True, True, False]])
@pytest.mark.parametrize("name", PROBABILITY)
def test_frequencies_follow_the_closed_form(name: str, present: list[bool]) -> None:
    available = draw(name, present)
    codes = tuple(i for i, there in enumerate(present) if there)
    subsets = nonempty(codes)
    drawn = [tuple(row.nonzero().ravel().tolist()) for row in available]
    observed = [drawn.count(subset) for subset in subsets]
    expected = [DRAWS * PROBABILITY[name](len(codes), len(subset)) for subset in subsets]
    assert sum(observed) == DRAWS, "a row is empty or shows what is not present"
    assert sum(expected) == pytest.approx(DRAWS)
    # Cells with an expectation near zero would spoil the statistic; none of these distributions has one.
    assert min(expected) > 5
    assert chisquare(observed, expected).pvalue > 1e-3


def test_the_test_can_tell_the_samplers_apart() -> None:
    sizes = {name: draw(name, [True] * 4).sum(dim=1).bincount(minlength=5)[1:] / DRAWS for name in PROBABILITY}
    different = ["uniform_subset", "size_then_subset", "bernoulli_repair", "drop_count", "curriculum"]
    for one, other in combinations(different, 2):
        assert (sizes[one] - sizes[other]).abs().max() > 0.005, f"{one} and {other}"


def test_published_probabilities_of_four() -> None:
    full = {name: draw(name, [True] * 4).all(dim=1).float().mean().item() for name in PROBABILITY}
    expected = {"uniform_subset": 1 / 15, "size_then_subset": 1 / 4, "bernoulli_repair": 1 / 16, "drop_count": 1 / 2}
    for name, value in expected.items():
        assert full[name] == pytest.approx(value, abs=0.015)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("modalities", [1, 2, 6])
def test_any_number_of_modalities(name: str, modalities: int) -> None:
    generator = torch.Generator().manual_seed(1)
    present = torch.rand(500, modalities, generator=generator) < 0.6
    present[:, 0] |= ~present.any(dim=1)
    for progress in (0.0, 0.5, 1.0):
        available = SAMPLERS[name](present, progress, generator)
        assert available.dtype == torch.bool
        assert available.any(dim=1).all()
        assert not (available & ~present).any()


def test_drop_count_of_six_shares_the_rest() -> None:
    dropped = 6 - draw("drop_count", [True] * 6).sum(dim=1)
    shares = (dropped.bincount(minlength=6) / DRAWS).tolist()
    assert shares == pytest.approx([0.5, 0.3, 0.15, 0.05 / 3, 0.05 / 3, 0.05 / 3], abs=0.012)


def test_curriculum_starts_with_everything_and_ends_with_one() -> None:
    assert draw("curriculum", [True] * 4, progress=0.0).float().mean() > 0.999
    assert draw("curriculum", [True] * 4, progress=1.0).sum(dim=1).float().mean() < 1.01
    means = [draw("curriculum", [True] * 4, progress=p).float().mean() for p in (0.1, 0.2, 0.3, 0.4)]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("name", [*PROBABILITY, "all"])
def test_the_generator_alone_decides(name: str) -> None:
    assert torch.equal(draw(name, [True] * 4, seed=3), draw(name, [True] * 4, seed=3))
    if name != "all":
        assert not torch.equal(draw(name, [True] * 4, seed=3), draw(name, [True] * 4, seed=4))


def test_all_shows_a_copy_of_what_is_present() -> None:
    present = torch.tensor([[True, False], [False, True]])
    available = make_sampler("all")(present, 0.0, torch.Generator())
    assert torch.equal(available, present)
    assert available.data_ptr() != present.data_ptr()


def test_fixed_shows_its_subset_in_any_spelling() -> None:
    sampler = make_sampler("fixed:flair+t1c")
    available = sampler(torch.ones(3, 4, dtype=torch.bool), 0.0, torch.Generator())
    assert available.tolist() == [[False, True, False, True]] * 3
    other = make_sampler("fixed:pd", DataSpec(modalities=("t1", "pd")))
    assert other(torch.ones(1, 2, dtype=torch.bool), 0.0, torch.Generator()).tolist() == [[False, True]]


def test_fixed_refuses_a_subject_that_lacks_it() -> None:
    with pytest.raises(UserError, match="lacks flair"):
        make_sampler("fixed:flair+t1c")(torch.tensor([[True, True, True, False]]), 0.0, torch.Generator())


@pytest.mark.parametrize("name", ["uniform_subsets", "fixed:t1ce", "fixed:", "nothing"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UserError) as caught:
        make_sampler(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UserError, match="did you mean 'uniform_subset'"):
        make_sampler("uniform_subsets")


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_without_any_modality_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="at least one modality"):
        SAMPLERS[name](torch.tensor([[True, False], [False, False]]), 0.5, torch.Generator())


def test_each_is_as_likely_to_be_the_one_that_is_missing() -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.tensor([[True] * 4, [True, False, True, True], [False, True, False, False]])
    drawn = torch.stack([SAMPLERS["one_missing"](present, 0.0, generator) for _ in range(2000)])
    assert (drawn.sum(dim=2) == torch.tensor([3, 2, 1])).all()
    assert not (drawn & ~present).any()
    assert chisquare((~drawn[:, 0]).sum(dim=0).tolist()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("epoch", "missing"), [(0, {1}), (10.9, {1}), (11, {1, 2}), (20.9, {1, 2}), (21, {1, 2, 3}), (31, {1, 2, 3})]
)
def test_few_are_missing_first(epoch: float, missing: set[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.tensor([[True] * 4, [True] * 4, [True, False, True, True]])
    drawn = [SAMPLERS["few_missing_first"](present, epoch / 60, generator) for _ in range(3000)]
    whole = torch.stack([rows[0] for rows in drawn])
    assert all(torch.equal(rows[0], rows[1]) for rows in drawn), "a batch shows one subset"
    assert {4 - int(shown) for shown in whole.sum(dim=1)} == missing
    assert {3 - int(rows[2].sum()) for rows in drawn} == missing - {3}, "never nothing"
    counts = (whole * torch.tensor([8, 4, 2, 1])).sum(dim=1).bincount(minlength=16)
    seen = [int(count) for count in counts if count]
    assert len(seen) == sum(comb(4, k) for k in missing)
    assert chisquare(seen).pvalue > 1e-3


def test_one_or_several_never_shows_all_and_half_of_the_rows_one() -> None:
    drawn = draw("one_or_several", [True] * 4)
    found = {tuple(row.nonzero().ravel().tolist()): 0 for row in drawn}
    for row in drawn:
        found[tuple(row.nonzero().ravel().tolist())] += 1
    subsets = nonempty((0, 1, 2, 3))[:-1]
    expected = [DRAWS * {1: 1 / 8, 2: 1 / 16, 3: 1 / 32}[len(subset)] for subset in subsets]
    assert sorted(found) == sorted(subsets)
    assert chisquare([found[subset] for subset in subsets], expected).pvalue > 1e-3
    assert (draw("one_or_several", [True, False, True, False]).sum(dim=1) == 1).all()
    assert draw("one_or_several", [False, True, False, False])[:, 1].all()
