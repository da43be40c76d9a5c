"""Tests of privacy.randomness: against RFC 8439's key stream and the laws that the draws must follow."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]

from privacy.randomness import SecureRandom

KEY = bytes(range(32))


def fixed() -> SecureRandom:
    return SecureRandom(KEY)


def normals(size: int, *, std: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return fixed().normal(torch.Size([size]), std=std).numpy().astype(np.float64)


def test_the_stream_is_chacha20_by_the_published_key_stream() -> None:
    published = bytes.fromhex("76b8e0ada0f13d90 405d6ae55386bd28 bdd219b8a08ded1a a836efcc8b770dc7")  # RFC 8439, A.1, vector 1
    words = [int.from_bytes(published[at : at + 8], "little") for at in range(0, 32, 8)]
    assert SecureRandom(bytes(32)).uniform(4).tolist() == [(word >> 11) / 2**53 for word in words]


def test_a_fixed_key_is_reproducible() -> None:
    first, second = fixed(), fixed()
    assert torch.equal(first.normal(torch.Size([7, 3]), std=2.0), second.normal(torch.Size([7, 3]), std=2.0))
    assert first.poisson_sample(50, 0.5) == second.poisson_sample(50, 0.5)


def test_two_default_streams_differ() -> None:
    assert not np.intersect1d(SecureRandom().uniform(1000), SecureRandom().uniform(1000)).size


def test_no_seed_of_torch_numpy_or_python_decides_a_draw() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        stream = SecureRandom()
        draws.append((stream.normal(torch.Size([20]), std=1.0).tolist(), stream.poisson_sample(200, 0.5)))
    assert draws[0][0] != draws[1][0]
    assert draws[0][1] != draws[1][1]


def test_drawing_leaves_the_generators_of_torch_and_numpy_where_they_were() -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)
    fixed().normal(torch.Size([100]), std=1.0)
    fixed().poisson_sample(100, 0.5)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert str(numpy_before) == str(np.random.get_state(legacy=False))


def test_a_stream_never_repeats_itself() -> None:
    stream = fixed()
    draws = np.concatenate([stream.uniform(20_000) for _ in range(5)])
    assert np.unique(draws).size == draws.size


def test_uniform_draws_lie_in_the_half_open_interval_and_follow_the_uniform_law() -> None:
    draws = fixed().uniform(200_000)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    assert np.array_equal(draws * 2**53, np.floor(draws * 2**53))
    assert stats.kstest(draws, "uniform").pvalue > 0.01


@pytest.mark.parametrize("std", [1e-6, 1.0, 250.0])
def test_noise_has_mean_zero_the_stated_standard_deviation_and_no_excess_kurtosis(std: float) -> None:
    draws, size = normals(400_000, std=std), 400_000
    assert abs(draws.mean()) < 4 * std / size**0.5
    assert draws.std() == pytest.approx(std, rel=4 / (2 * size) ** 0.5)
    assert abs(stats.skew(draws)) < 4 * (6 / size) ** 0.5
    assert abs(stats.kurtosis(draws)) < 4 * (24 / size) ** 0.5


def test_noise_follows_the_normal_law() -> None:
    assert stats.kstest(normals(300_000, std=3.0), stats.norm(scale=3.0).cdf).pvalue > 0.01


def test_noise_has_the_tails_of_the_normal_law() -> None:
    """A tail cut short is what delta pays for: 31.7 of a million draws lie above four standard deviations, as many below."""
    draws = normals(1_000_000)
    for side in (draws, -draws):
        assert stats.binomtest(int((side > 4).sum()), draws.size, float(stats.norm.sf(4))).pvalue > 1e-3


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("lag", [1, 2, 4, 50_000])
def test_noise_of_one_coordinate_says_nothing_of_another(lag: int, power: int) -> None:
    """Box and Muller's two draws share a radius: their squares would be correlated if a pair were torn apart wrongly."""
    draws = normals(100_000) ** power
    assert abs(np.corrcoef(draws[:-lag], draws[lag:])[0, 1]) < 4 / (draws.size - lag) ** 0.5


def test_noise_of_one_step_says_nothing_of_the_next() -> None:
    stream = fixed()
    first, second = (stream.normal(torch.Size([50_000]), std=1.0).numpy() for _ in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / 50_000**0.5


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 7), (2, 3, 4)])
def test_noise_has_the_shape_that_was_asked_for(shape: tuple[int, ...]) -> None:
    assert fixed().normal(torch.Size(shape), std=1.0).shape == shape


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.9])
def test_sample_sizes_have_the_binomial_mean_and_variance(rate: float) -> None:
    stream, entries, samples = fixed(), 40, 5000
    sizes = np.array([len(stream.poisson_sample(entries, rate)) for _ in range(samples)])
    variance = entries * rate * (1 - rate)
    assert sizes.mean() == pytest.approx(entries * rate, abs=4 * (variance / samples) ** 0.5)
    assert sizes.var() == pytest.approx(variance, rel=0.1)


def test_sample_sizes_follow_the_binomial_law() -> None:
    stream = fixed()
    observed = np.bincount([len(stream.poisson_sample(6, 0.3)) for _ in range(6000)], minlength=7)
    assert stats.chisquare(observed, 6000 * stats.binom.pmf(np.arange(7), 6, 0.3)).pvalue > 0.01


def test_every_entry_is_as_likely_as_every_other_and_independent_of_it_and_of_the_step_before() -> None:
    stream, entries, samples = fixed(), 12, 8000
    taken = np.zeros((samples, entries))
    for step in range(samples):
        taken[step, stream.poisson_sample(entries, 0.25)] = 1
    bound = 4.5 / samples**0.5
    assert np.abs(taken.mean(axis=0) - 0.25).max() < bound * 0.25
    assert np.abs(np.corrcoef(taken.T) - np.eye(entries)).max() < bound
    assert np.abs(np.corrcoef(taken[:-1].T, taken[1:].T)[:entries, entries:]).max() < bound


@pytest.mark.parametrize("entries", [0, 1, 33])
def test_a_rate_of_one_takes_everything_and_a_tiny_rate_may_take_nothing(entries: int) -> None:
    assert fixed().poisson_sample(entries, 1.0) == list(range(entries))
    assert fixed().poisson_sample(entries, 1e-12) == []
