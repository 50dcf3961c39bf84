"""The types that all rooms share: batches, codes, dictionaries, learners, meters, and the axis letters.

The name of every array ends in its axis letters, one letter for each axis, slowest first:

    N dictionaries of a sweep     B tokens of a batch          D width of an activation
    F latents                     K entries of a sparse code   S sequences
    T positions in a sequence     V vocabulary                 H attention heads x head width
    G key/value heads x width     M hidden units of an MLP     W width of an attention head
    C candidate points of an archetypal dictionary
    L concatenated sources: layers of a model, or models
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

AXES = "NBDFKSTVHGMWCL"

Scalar: TypeAlias = float | int | jax.Array
"""A hyperparameter that does not affect a shape: a Python number, or a tracer when it is swept."""

Tokens: TypeAlias = Float[Array, "B D"] | Float[np.ndarray, "B D"]
"""Activations, of any floating type: the inputs of dictionaries."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """The language model of a batch of whole sequences, for objectives that run it: B = S T.

    tokens_ST, mask_ST: the sequences, and which of their tokens are data. y_STD: the model's raw
    activations at the tap of the targets. params: its parameters, which are an argument of every program
    whose argument is the batch. splice: `lm.splice.run` of the model at that tap, static. scale: the
    scale of the batch's targets, `y_BD = scale * y`, static.
    """

    tokens_ST: Any
    mask_ST: Any
    y_STD: Any
    params: Any
    splice: Callable = dataclasses.field(metadata={"static": True})
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})

    def run(self, new_STD: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits `[S, T, V]` and taps of the model with `new_STD` at the tap; masked tokens keep their
        activation."""
        return self.splice(self.params, self.tokens_ST, self.mask_ST, self.y_STD, new_STD)


class Batch(NamedTuple):
    """The tokens of one update: inputs `x_BD` and targets `y_BD` (the same array in an autoencoder).

    Args:
        x_BD: the inputs.
        y_BD: the targets.
        sequence_B, position_B: the key of each token, its sequence and position, int32; None unless the
            stream has `keys`.
        g_BD: the gradient of the language model's loss at x, in units of its root mean square; None
            unless the stream has `gradients`.
        context: see `Context`; None unless the batch consists of whole sequences.

    Example:
        >>> import jax.numpy as jnp
        >>> x_BD = jnp.ones((2, 4))
        >>> Batch(x_BD, x_BD).y_BD.shape
        (2, 4)
    """

    # Any, because a stream gives NumPy arrays, a step has JAX arrays, and a plan has only their shapes.
    x_BD: Any
    y_BD: Any
    sequence_B: Any = None
    position_B: Any = None
    g_BD: Any = None
    context: Any = None


class Codes(NamedTuple):
    """The latents of a batch.

    Args:
        val: `[B, K]` in sparse codes, the values at latents `idx_BK` (an entry of value zero is not
            active); `[B, F]` in dense codes.
        idx_BK: the indices of the latents; None in dense codes.

    Example:
        >>> import jax.numpy as jnp
        >>> sparse = Codes(jnp.array([[0.5, 2.0]]), jnp.array([[3, 1]]))
        >>> sparse.val.shape, sparse.idx_BK.shape
        ((1, 2), (1, 2))
    """

    val: Float[Array, "B _"]
    idx_BK: Int[Array, "B K"] | None = None


class Out(NamedTuple):
    """The result of a dictionary's training forward pass.

    Args:
        y_BD: the reconstruction of the target.
        codes: the latents from which it was decoded.
        pre_BF: pre-activations, without gradient.
        penalty_B: the variant's own sparsity penalty of each token, including its coefficient; None for
            no penalty.
        residual_SD: AuxK's reconstruction of the residual by the dead latents, for the tokens that
            `ops.auxk.sampled` takes; None for no AuxK.
        others: further reconstructions of the target, (weight, [B, D]) each, whose objectives are added
            to the loss.

    Example:
        >>> import jax.numpy as jnp
        >>> y_BD, f_BF = jnp.ones((2, 4)), jnp.ones((2, 16))
        >>> Out(y_BD, Codes(f_BF), f_BF).penalty_B is None
        True
    """

    y_BD: Float[Array, "B D"]
    codes: Codes
    pre_BF: Float[Array, "B F"]
    penalty_B: Float[Array, " B"] | None = None
    residual_SD: Float[Array, "S D"] | None = None
    others: tuple[tuple[Scalar, Float[Array, "B D"]], ...] = ()


class Dictionary(nn.Module):
    """The interface of dictionaries: `encode`, `decode`, a training forward pass, and traits.
    Every trait below has the value of a plain dictionary, and a variant overrides the traits in which it
    differs. Readers use the trait and never ask whether it exists. A field may replace a property.

    Args:
        d_in: the width of the input.
        n_latents: the width of the codes.

    Class variables: learner, the name of the learner that trains it; wrapped_by, the name of the rule
    that wraps its rule where the config has no `revive`; reads_gradient, whether `encode` and `__call__`
    also take g_BD; transcodes, whether `d_out` may be set; layered, whether latent i reads source i mod L
    alone, and writes that source and later ones.

    Example:
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> isinstance(module, Dictionary), module.sources, module.transcodes
        (True, 1, True)
    """

    learner: ClassVar[str] = "gradient"
    wrapped_by: ClassVar[str | None] = None
    reads_gradient: ClassVar[bool] = False
    transcodes: ClassVar[bool] = True
    layered: ClassVar[bool] = False

    d_in: int
    n_latents: int

    def encode(self, x_BD: Tokens) -> Codes:
        """Inference: the codes of each token, independent of the other tokens."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> jax.Array:
        """The reconstruction `[B, D]` of the target, from sparse or dense codes."""
        raise NotImplementedError

    def reconstruct(self, x_BD: Tokens) -> tuple[jax.Array, Codes]:
        """Inference from input to target: (the whole reconstruction `[B, D]`, its codes). `decode` lacks the
        skip of a transcoder."""
        codes = self.encode(x_BD)
        return self.decode(codes), codes

    def __call__(self, x_BD: Tokens, dead_F: jax.Array) -> Out:
        """Training: may use the whole batch, and which latents are dead."""
        raise NotImplementedError

    @classmethod
    def recommended(cls, *, d_in: int, n_latents: int, steps: int, l0: float) -> dict:
        """What `experiment.recommended` sets for this dictionary, by subtree of a config. d_in, n_latents: the
        widths. steps: the length of the run. l0: the wanted number of active latents of a token."""
        return {}

    def declare(self) -> None:
        """Declares every variable, and computes nothing: `module.init(key, method="declare")` is as `init` of
        any other method, without tracing it. A module that declares in `setup` has nothing to add."""

    def threshold(self) -> jax.Array | None:
        """The value that a pre-activation must exceed for its latent to fire at inference, a scalar or
        `[F]`; None where no threshold decides."""
        return None

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with an initialisation that depends on a sample of the data. Pure and unbound."""
        return variables

    def project(self, params: dict) -> dict:
        """`params` projected after an update, e.g. onto a simplex. Pure and unbound."""
        return params

    def targets(self) -> jax.Array | None:
        """The share of the tokens on which each latent may fire, `[F]`; None for no limit. Unbound."""
        return None

    def by_layer(self, variables: Mapping[str, Any]) -> "list[tuple[Dictionary, dict]]":
        """(module, variables) of a dictionary for each source; none where sources share latents. Unbound."""
        return []

    @property
    def d_out(self) -> int | None:
        """Width of the target of a transcoder; None in an autoencoder, whose target is its input."""
        return None

    @property
    def sources(self) -> int:
        """The number of activations that are concatenated in its input: layers, or models."""
        return 1

    @property
    def subtract_b_dec(self) -> bool:
        """Whether the encoder of an autoencoder reads `x - b_dec`; a transcoder's encoder reads `x`."""
        return True

    @property
    def foldable(self) -> bool:
        """Whether the scale of its input can be folded into its weights (runs/fold.py)."""
        return True


class Firing(NamedTuple):
    """Firing statistics of a batch, for rules.

    Args:
        count_F: the number of tokens on which each latent fired.
        max_F: the largest pre-activation of each latent.
        dead_F: whether each latent was dead before the batch.
        target_F: the share of the tokens on which each latent may fire; None for a dictionary without
            `targets`.

    Example:
        >>> import jax.numpy as jnp
        >>> Firing(jnp.zeros(16, int), jnp.zeros(16), jnp.zeros(16, bool)).target_F is None
        True
    """

    count_F: Int[Array, " F"]
    max_F: Float[Array, " F"]
    dead_F: Bool[Array, " F"]
    target_F: Float[Array, " F"] | None = None


Objective: TypeAlias = Callable[[Out, Batch], jax.Array]
"""(out, batch) -> the loss of each token, `[B]`."""


class Learner(NamedTuple):
    """A dictionary-learning algorithm as a fold over a stream of batches. Hyperparameters are part of the
    functions.

    Args:
        init: (key, batch) -> state.
        update: (state, batch) -> (state, info), pure.
        variables: state -> the dictionary's variables.

    Example:
        >>> mean = Learner(
        ...     init=lambda key, batch: 0.0,
        ...     update=lambda state, batch: (0.9 * state + 0.1 * batch.x_BD.mean(), {}),
        ...     variables=lambda state: {"params": {"mean": state}},
        ... )
        >>> mean.variables(mean.init(None, None))
        {'params': {'mean': 0.0}}
    """

    init: Callable[[jax.Array, Batch], Any]
    update: Callable[[Any, Batch], tuple[Any, dict[str, jax.Array]]]
    variables: Callable[[Any], dict]


class Meter(NamedTuple):
    """An evaluation as a fold over batches: sums and counts, divided once at the end.

    Args:
        measure: reading -> sums. It runs on the device, one batch at a time, in float32, and may be
            jitted and vmapped.
        init: () -> totals.
        update: (totals, sums) -> totals, on the host in float64.
        result: totals -> {metric: value}, Python numbers and lists.

    Example:
        >>> count = Meter(len, lambda: 0, lambda total, n: total + n, lambda total: {"tokens": total})
        >>> count.result(count.update(count.init(), count.measure([1, 2, 3])))
        {'tokens': 3}
    """

    measure: Callable
    init: Callable
    update: Callable
    result: Callable
