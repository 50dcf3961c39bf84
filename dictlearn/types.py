"""The shapes everything else agrees on: batches, codes, learners, meters, and the axis letters.

Every array's name ends in its axis letters, one letter an axis, slowest first:

    N dictionaries of a sweep     B tokens of a batch          D width of an activation
    F latents                     K entries kept for a token   S sequences
    T positions in a sequence     V vocabulary                 H attention heads x head width
    G key/value heads x width     M hidden units of an MLP     W width of an attention head
    C candidate points of an archetypal dictionary
    L sources side by side: layers of a model, or models
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

AXES = "NBDFKSTVHGMWCL"

Scalar: TypeAlias = float | int | jax.Array
"""A hyperparameter that decides no shape: a Python number, or a tracer when it is swept."""

Tokens: TypeAlias = Float[Array, "B D"] | Float[np.ndarray, "B D"]
"""Activations, of any floating type: what dictionaries read."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
    """The language model around a batch of whole sequences, for objectives that run it: B = S T.

    tokens_ST, mask_ST: the sequences, and which of their tokens are data. y_STD: what the model has at
    the tap of the targets, raw. params: its parameters, an argument of every program that a batch is. splice:
    `lm.splice.run` of the model at that tap, static. scale: of the batch's targets, `y_BD = scale * y`,
    static."""

    tokens_ST: Any
    mask_ST: Any
    y_STD: Any
    params: Any
    splice: Callable = dataclasses.field(metadata={"static": True})
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})

    def run(self, new_STD: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits `[S, T, V]` and taps of the model with `new_STD` at the tap, masked tokens as they were."""
        return self.splice(self.params, self.tokens_ST, self.mask_ST, self.y_STD, new_STD)


class Batch(NamedTuple):
    """Tokens for one update: inputs `x_BD` and targets `y_BD` (the same array in an autoencoder).

    sequence_B, position_B: each token's key, where it came from, int32; None unless the stream was
    asked for `keys`. g_BD: the gradient of the language model's loss at x, in units of its root mean
    square; None unless it was asked for `gradients`. context: see `Context`; None unless the batch is of
    whole sequences."""

    x_BD: Any
    y_BD: Any
    sequence_B: Any = None
    position_B: Any = None
    g_BD: Any = None
    context: Any = None


class Codes(NamedTuple):
    """The latents of a batch. Sparse variants hold `val_BK` at latents `idx_BK` (an entry of value
    zero is not active); dense variants hold `val_BF` and `idx_BK` is None."""

    val: jax.Array
    idx_BK: jax.Array | None = None


class Out(NamedTuple):
    """What a dictionary's training forward returns.

    y_BD: the reconstruction of the target. codes: the latents it was decoded from.
    pre_BF: pre-activations, without gradient. penalty_B: the variant's own sparsity penalty per
    token, its coefficient included (None where it has none). residual_BD: the dead latents'
    reconstruction of the residual, for AuxK (None where the variant has none). others: more
    reconstructions of the target, (weight, [B, D]) each, whose objectives join the loss."""

    y_BD: jax.Array
    codes: Codes
    pre_BF: jax.Array
    penalty_B: jax.Array | None = None
    residual_BD: jax.Array | None = None
    others: tuple[tuple[Scalar, jax.Array], ...] = ()


class Dictionary(nn.Module):
    """What a dictionary is: `encode`, `decode`, a training forward, and what else may be asked of it.

    An interface: every trait below has the answer of a plain dictionary, and a variant overrides those in which
    it differs. Readers ask the trait, never whether there is one. A field may take the place of a property.

    d_in, n_latents: widths of the input and of the codes.

    learner: name of the learner that makes it. wrapped_by: name of the rule that wraps its rule where the
    config has no `revive`. reads_gradient: `encode` and `__call__` take g_BD too. transcodes: whether `d_out`
    may be set."""

    learner: ClassVar[str] = "gradient"
    wrapped_by: ClassVar[str | None] = None
    reads_gradient: ClassVar[bool] = False
    transcodes: ClassVar[bool] = True

    d_in: int
    n_latents: int

    def encode(self, x_BD: Tokens) -> Codes:
        """Inference, each token by itself."""
        raise NotImplementedError

    def decode(self, codes: Codes) -> jax.Array:
        """The reconstruction `[B, D]` of the target, from sparse or dense codes."""
        raise NotImplementedError

    def reconstruct(self, x_BD: Tokens) -> tuple[jax.Array, Codes]:
        """Inference from input to target: the whole reconstruction `[B, D]`, and the codes between. `decode`
        lacks what a skip adds."""
        codes = self.encode(x_BD)
        return self.decode(codes), codes

    def __call__(self, x_BD: Tokens, dead_F: jax.Array) -> Out:
        """Training: may look at the whole batch, and at which latents are dead."""
        raise NotImplementedError

    def threshold(self) -> jax.Array | None:
        """What a pre-activation must exceed for its latent to fire at inference, a scalar or `[F]`; None where
        no threshold decides."""
        return None

    def start(self, key: jax.Array, variables: dict, batch: Batch) -> dict:
        """`variables` with a start that depends on a sample of the data. Pure and unbound."""
        return variables

    def project(self, params: dict) -> dict:
        """`params` after an update, e.g. onto a simplex. Pure and unbound."""
        return params

    def targets(self) -> jax.Array | None:
        """The share of the tokens on which each latent may fire, `[F]`; None for any. Unbound."""
        return None

    @property
    def d_out(self) -> int | None:
        """Width of the target of a transcoder; None in an autoencoder, whose target is its input."""
        return None

    @property
    def sources(self) -> int:
        """How many activations stand side by side in its input: layers, or models."""
        return 1

    @property
    def subtract_b_dec(self) -> bool:
        """Whether an autoencoder's encoder reads `x - b_dec`; a transcoder's reads `x`."""
        return True

    @property
    def foldable(self) -> bool:
        """Whether the scale of its input can be folded into its weights (runs/fold.py)."""
        return True


class Firing(NamedTuple):
    """What rules see of a batch: tokens on which each latent fired, its largest pre-activation,
    whether it was dead before it, and the share of the tokens on which it may fire (None where the
    dictionary has no `targets`)."""

    count_F: jax.Array
    max_F: jax.Array
    dead_F: jax.Array
    target_F: jax.Array | None = None


Objective: TypeAlias = Callable[[Out, Batch], jax.Array]
"""(out, batch) -> the loss of each token, `[B]`."""


class Learner(NamedTuple):
    """A dictionary-learning algorithm as a fold over a stream of batches.

    init: (key, batch) -> state. update: (state, batch) -> (state, info), pure. variables: state -> the
    dictionary's variables. Hyperparameters are in what the learner was built of."""

    init: Callable[[jax.Array, Batch], Any]
    update: Callable[[Any, Batch], tuple[Any, dict[str, jax.Array]]]
    variables: Callable[[Any], dict]


class Meter(NamedTuple):
    """An evaluation as a fold over batches: sums and counts, divided once at the end.

    `measure` runs on the device, one batch at a time, in float32; `update` adds its sums up on the
    host in float64; `result` gives a dict of Python numbers and lists."""

    measure: Callable  # (reading) -> sums, jittable and vmappable
    init: Callable  # () -> totals
    update: Callable  # (totals, sums) -> totals
    result: Callable  # totals -> {metric: value}
