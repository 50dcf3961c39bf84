"""The exponential moving average of a dictionary's parameters over the steps of training.

    m <- decay m + (1 - decay) params        read as m / (1 - decay^t), corrected for its start at zero

Training itself does not read the average.

Source: Gao et al. 2024, appendix A.5, whose decay is 0.999.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from dictlearn.types import Batch, Learner


class State(NamedTuple):
    """inner: the state of the wrapped learner. mean: the average of its parameters, before the correction.
    step: the number of updates."""

    inner: Any
    mean: dict
    step: jax.Array

    @property
    def variables(self) -> dict:
        return self.inner.variables


def ema(inner: Learner, decay: float) -> Learner:
    """A learner with an exponential moving average of its parameters.

    Args:
        inner: the learner to wrap; it trains as before.
        decay: the decay of the average, in (0, 1).

    Returns:
        A Learner whose `variables` are the averaged parameters and the statistics of `inner`.

    Raises:
        ValueError: for a decay outside (0, 1).

    Example:
        >>> import jax, optax
        >>> from dictlearn import Batch, dictionaries, gradient, objectives
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> learner = ema(gradient(module, objectives.make("fvu"), optax.adam(1e-3)), decay=0.999)
        >>> state = learner.init(jax.random.key(1), Batch(x_BD, x_BD))
        >>> learner.variables(state)["params"]["W_dec_FD"].shape
        (16, 4)
    """
    if not 0 < decay < 1:
        raise ValueError(f"{decay=} must be between 0 and 1; leave ema_decay None for no average.")

    def init(key: jax.Array, batch: Batch) -> State:
        state = inner.init(key, batch)
        mean = jax.tree.map(jnp.zeros_like, inner.variables(state)["params"])
        return State(state, mean, jnp.zeros((), jnp.int32))

    def update(state: State, batch: Batch) -> tuple[State, dict]:
        new, info = inner.update(state.inner, batch)
        params = inner.variables(new)["params"]
        mean = optax.incremental_update(params, state.mean, 1 - decay)
        return State(new, cast(dict, mean), state.step + 1), info

    def variables(state: State) -> dict:
        own = inner.variables(state.inner)
        weight = 1 - decay ** state.step.astype(jnp.float32)
        read = lambda mean, new: jnp.where(weight > 0, mean / weight, new)
        return {**own, "params": jax.tree.map(read, state.mean, own["params"])}

    return Learner(init, update, variables)
