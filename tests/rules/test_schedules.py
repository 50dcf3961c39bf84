"""Schedules are their equations; the default is, to the bit, warm-up, plateau and linear decay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import rules
from dictlearn.rules._schedules import rate

T, W = 40, 8


def rates(schedule, lr=1.0, steps=T, warmup_steps=W, decay_fraction=None, **law):
    law = {"lr_law": "none", "n_latents": 2**14} | law
    at = rate(
        lr,
        **{"steps": steps, "warmup_steps": warmup_steps, "schedule": schedule},
        decay_fraction=decay_fraction,
        **law,
    )
    return np.asarray(jax.jit(jax.vmap(at))(jnp.arange(steps + 1)))


STEP = np.arange(T + 1)
AFTER = np.maximum(STEP - W, 0) / (T - W)
EQUATIONS = {
    "constant": np.ones(T + 1),
    "linear": 1 - AFTER,
    "cosine": (1 + np.cos(np.pi * AFTER)) / 2,
    "inverse_sqrt": np.sqrt(W / np.maximum(STEP, W)),
    "wsd": np.minimum(1, (T - STEP) / (0.2 * T)),
}


@pytest.mark.parametrize("schedule", rules.schedules())
def test_a_schedule_is_its_equation_after_a_linear_warm_up(schedule):
    wanted = np.minimum((STEP + 1) / W, EQUATIONS[schedule])
    np.testing.assert_allclose(rates(schedule), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("schedule", rules.schedules())
@pytest.mark.parametrize("warmup_steps", [0, 1, 100])
def test_a_warm_up_of_nothing_or_longer_than_the_run_is_a_rate_too(schedule, warmup_steps):
    found = rates(schedule, 0.5, warmup_steps=warmup_steps)
    assert found[0] == pytest.approx(0.5 / max(1, warmup_steps))
    assert ((found >= 0) & (found <= 0.5)).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wsd_is_to_the_bit_what_adam_had_before_it_had_a_name(share):
    def before(step):
        warm = (step + 1) / max(1, W)
        cool = (T - step) / max(1, round(share * T))
        return 3e-4 * jnp.asarray(jnp.clip(jnp.minimum(warm, cool), 0.0, 1.0), float)

    wanted = jax.jit(jax.vmap(before))(jnp.arange(T + 1))
    np.testing.assert_array_equal(rates("wsd", 3e-4, decay_fraction=share), wanted)


def test_no_share_that_falls_at_the_end_is_as_none_given():
    for schedule in set(rules.schedules()) - {"wsd"}:
        np.testing.assert_array_equal(rates(schedule, decay_fraction=0.0), rates(schedule))


def test_a_law_of_the_width_scales_every_schedule():
    for schedule in rules.schedules():
        found = rates(schedule, lr_law="sqrt_latents", n_latents=2**16)
        np.testing.assert_allclose(found, rates(schedule) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "step"}, "'step'.*constant, linear, cosine, inverse_sqrt, wsd"),
        ({"schedule": "cosine", "decay_fraction": 0.1}, "0.1.*'cosine'"),
        ({"schedule": "wsd", "decay_fraction": 1.5}, "1.5.* 0 and 1"),
        ({"schedule": "wsd", "lr_law": "cube"}, "'cube'.* sqrt_latents"),
    ],
)
def test_what_there_is_not_and_what_is_not_read_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        rates(**arguments)
