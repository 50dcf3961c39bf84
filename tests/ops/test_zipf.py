"""Zipf's law of densities: its fit, the latents below it, budgets shared out by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops import zipf


def law(alpha, shift=0, n=500, scale=0.2):
    return scale * (np.arange(1, n + 1) + shift) ** -alpha


@pytest.mark.parametrize(("alpha", "shift"), [(0.6, 0), (1.0, 0), (1.4, 0), (1.0, 4)])
def test_an_exact_power_law_is_recovered_in_any_order(alpha, shift):
    density_F = jax.random.permutation(jax.random.key(0), jnp.asarray(law(alpha, shift)))
    found = zipf.fit(density_F)
    np.testing.assert_allclose(found.alpha, alpha, atol=0.02)
    assert found.shift == shift
    np.testing.assert_allclose(zipf.curve(found, 500), law(alpha, shift), rtol=0.02)


def test_latents_without_a_density_do_not_bend_the_fit():
    density_F = jnp.concatenate([jnp.asarray(law(1.0)), jnp.zeros(300)])
    np.testing.assert_allclose(zipf.fit(density_F).alpha, 1.0, atol=0.02)


def test_no_latent_is_underused_on_the_law_and_exactly_those_pushed_below_it_are():
    density_F = jax.random.permutation(jax.random.key(1), jnp.asarray(law(1.0)))
    assert not zipf.underused(density_F).any()
    low = np.argsort(density_F)[:20]
    pushed = np.asarray(density_F).copy()
    pushed[low] *= 0.1
    np.testing.assert_array_equal(np.flatnonzero(zipf.underused(jnp.asarray(pushed))), np.sort(low))


def test_before_any_token_no_latent_is_underused():
    assert not zipf.underused(jnp.zeros(10)).any()


@pytest.mark.parametrize("total", [0, 7, 64, 1536])
def test_quotas_sum_to_the_budget_and_none_is_empty_while_it_allows(total):
    m_R = np.asarray(zipf.quotas(jnp.asarray(law(1.5, n=64)), total))
    assert m_R.sum() == total
    assert m_R.min() >= min(1, total // 64)
    if total == 1536:
        assert (np.diff(m_R) <= 1).all()
        np.testing.assert_allclose(
            m_R[0], 1 + (1536 - 64) * law(1.5, n=64)[0] / law(1.5, n=64).sum(), atol=1
        )
