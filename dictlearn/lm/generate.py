"""Generation: continuations of prompts, with edits at taps.

The prompts are read in one forward pass, which keeps the keys and values of every layer. Each further token is
one pass over that token alone. Prompts of different lengths share a batch: they are padded on the right, each
sequence counts its own positions, and a generated token takes the place of the padding. Padding is therefore
never attended to. The result is that of a whole forward pass for every token, up to rounding.

Edits act on the tokens of the prompt and on the generated ones, as they are read. The first token of a prompt
is left alone unless a mask says otherwise: it is often a marker of the beginning, and its activation is far
larger than any other.

Axes: P positions of the prompt, N generated tokens; the others as in `dictlearn.types`.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dictlearn.lm import decoder
from dictlearn.lm.edits import Edit
from dictlearn.lm.model import LM
from dictlearn.lm.sampling import Sampling, draw
from dictlearn.lm.spec import Spec
from dictlearn.lm.taps import check_taps

_ROUND = 32
"""Lengths are rounded up to a multiple of it, so that similar prompts share a program."""


class Edits(NamedTuple):
    """Edits, by tap, that differ between the prompt and the generated tokens.

    Args:
        prompt: the edits of the prompt; their activations are `[B, P, D]`.
        generated: the edits of each generated token as it is read; their activations are `[B, 1, D]`.

    Example:
        >>> from dictlearn.lm import edits
        >>> Edits(prompt={"resid.0": edits.zero()}).generated
        {}
    """

    prompt: Mapping[str, Edit] = {}
    generated: Mapping[str, Edit] = {}


class Prompts(NamedTuple):
    """Prompts in one array.

    Args:
        tokens_BP: the tokens, padded on the right with each prompt's last token.
        length_B: the number of tokens of each prompt.

    Example:
        >>> Prompts(np.array([[5, 5]]), np.array([1])).mask_BP()
        array([[False, False]])
    """

    tokens_BP: np.ndarray
    length_B: np.ndarray

    def mask_BP(self) -> np.ndarray:
        """True at every token of a prompt except its first."""
        place_P = np.arange(self.tokens_BP.shape[1])
        return (place_P > 0) & (place_P < self.length_B[:, None])


class Generated(NamedTuple):
    """Continuations.

    Args:
        tokens_BN: the tokens; after a stop token, that token again.
        length_B: the number of tokens up to the first stop token, including it.
        log_prob_BN: the logarithm of the probability that the model, with its edits, gave each token, at a
            temperature of 1.

    Example:
        >>> Generated(np.array([[7, 9, 9]]), np.array([2]), np.zeros((1, 3))).texts()
        [[7, 9]]
    """

    tokens_BN: np.ndarray
    length_B: np.ndarray
    log_prob_BN: np.ndarray

    def texts(self) -> list[list[int]]:
        """The tokens of each continuation, without what follows a stop token."""
        pairs = zip(self.tokens_BN, self.length_B, strict=True)
        return [tokens_N[:length].tolist() for tokens_N, length in pairs]


def prompts(lm: LM, tokens: Sequence[Sequence[int]] | np.ndarray) -> Prompts:
    """Puts prompts of any lengths into one array, whose length is rounded up.

    Args:
        lm: the language model.
        tokens: the token ids of each prompt.

    Returns:
        Prompts.

    Raises:
        ValueError: for no prompt, an empty one, one that is longer than the model's learned positions, a token
            without a row in the embedding, and for a model that is no decoder.

    Example:
        >>> from functools import partial
        >>> from dictlearn.lm.tokenizer import trained
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=300)
        >>> lm = LM("mine", spec, {}, trained(["a b"], 300), 0, {}, partial(decoder.forward, spec))
        >>> prompts(lm, [[5, 6], [7]]).length_B
        array([2, 1])
    """
    _check_prompts(lm, tokens)
    length_B = np.array([len(each) for each in tokens])
    length = _rounded(lm.spec, int(length_B.max()))
    rows = [np.pad(each, (0, length - len(each)), mode="edge") for each in tokens]
    return Prompts(np.stack(rows).astype(np.int32), length_B)


def _check_prompts(lm: LM, tokens: Sequence[Sequence[int]] | np.ndarray) -> None:
    if not isinstance(lm.spec, Spec):
        raise ValueError(f"{lm.name} is no decoder and generates nothing; load a causal model.")
    if not len(tokens) or not all(map(len, tokens)):
        raise ValueError(f"Prompts have at least one token each; there are {len(tokens)} prompts.")
    for each in tokens:
        lm.check_tokens(each, "A prompt")


def generate(
    lm: LM,
    tokens: Sequence[Sequence[int]] | np.ndarray | Prompts,
    *,
    n_tokens: int,
    edits: Mapping[str, Edit] | Edits | None = None,
    mask_BP: np.ndarray | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: Collection[int] = (),
) -> Generated:
    """Continues prompts with the model.

    Two programs are compiled: for the prompts, and for one more token of each. An edit that is a
    `jax.tree_util.Partial` may have other arrays in the next call without being compiled again.

    Args:
        lm: the language model.
        tokens: the token ids of each prompt, of any lengths, or `prompts` of them.
        n_tokens: the number of tokens to generate, at least 1.
        edits: edits by tap, as `forward` takes them, for the prompt and for every generated token; or `Edits`.
        mask_BP: which tokens of the prompt edits act on, in the shape of `Prompts.tokens_BP`; None for all but
            the first of each prompt.
        temperature: 0 takes the most likely token; otherwise draws are from softmax(logits / temperature).
        top_k: draws among the `top_k` most likely tokens only; None for all.
        top_p: draws among the most likely tokens whose probabilities add up to `top_p` or more; None for all.
        seed: of the draws. Row b of a batch draws the same random numbers whatever the edits.
        stop: tokens that end a continuation.

    Returns:
        Generated.

    Raises:
        ValueError: for prompts that `prompts` refuses, an unknown tap, more tokens than learned positions, and
            `n_tokens`, `temperature`, `top_k`, `top_p` out of range.

    Example:
        >>> from functools import partial
        >>> from dictlearn.lm.spec import random_params
        >>> from dictlearn.lm.tokenizer import trained
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=300)
        >>> params = random_params(spec, jax.random.key(0))
        >>> lm = LM("mine", spec, params, trained(["a b"], 300), 0, {}, partial(decoder.forward, spec))
        >>> generate(lm, [[5, 6], [7]], n_tokens=3).tokens_BN.shape
        (2, 3)
    """
    given = tokens if isinstance(tokens, Prompts) else prompts(lm, tokens)
    sampling = Sampling(temperature, top_k, top_p).checked()
    if n_tokens < 1:
        raise ValueError(f"{n_tokens=} must be at least 1.")
    most, limit = int(given.length_B.max()) + n_tokens, lm.spec.positions
    if limit and most > limit:
        raise ValueError(f"{most} tokens with {n_tokens=}; the model has {limit} positions.")
    phases = _phases(lm.spec, edits)
    mask_BP = given.mask_BP() if mask_BP is None else mask_BP
    take = functools.partial(draw, sampling, jax.random.key(seed))
    room = _rounded(lm.spec, most)
    logits_BV, kept = _read(
        lm.spec, room, lm.params, given.tokens_BP, given.length_B, phases[0], mask_BP
    )
    advance = functools.partial(_advance, lm.spec, lm.params, edits=phases[1])
    return _continue(take, advance, logits_BV, kept, given.length_B, n_tokens, stop)


def _continue(
    take: Callable,
    advance: Callable,
    logits_BV: jax.Array,
    kept: decoder.Kept,
    length_B: np.ndarray,
    n_tokens: int,
    stop: Collection[int],
) -> Generated:
    """The tokens that `take` draws from the logits, each read by `advance`."""
    found, stopping, stopped_B = [], np.array(sorted(stop), int), np.zeros(len(length_B), bool)
    for n in range(n_tokens):
        found.append(take(n, logits_BV))
        if len(stopping):
            stopped_B |= np.isin(np.asarray(found[-1][0]), stopping)
        if n + 1 == n_tokens or stopped_B.all():
            break
        logits_BV, kept = advance(found[-1][0], jnp.asarray(length_B + n), kept)
    tokens_BN, log_prob_BN = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    return _stopped(np.asarray(tokens_BN), np.asarray(log_prob_BN), stopping)


def _stopped(tokens_BN: np.ndarray, log_prob_BN: np.ndarray, stopping: np.ndarray) -> Generated:
    """The continuations, each up to its first stop token."""
    stops_BN = np.isin(tokens_BN, stopping)
    n_generated = tokens_BN.shape[1]
    length_B = np.where(stops_BN.any(1), stops_BN.argmax(1) + 1, n_generated)
    last_BN = np.minimum(np.arange(n_generated), length_B[:, None] - 1)
    return Generated(np.take_along_axis(tokens_BN, last_BN, 1), length_B, log_prob_BN)


def _rounded(spec: Spec, length: int) -> int:
    """The length of the array for `length` positions."""
    if spec.positions and length > spec.positions:
        raise ValueError(f"{length} tokens; the model has {spec.positions} positions.")
    rounded = -(-length // _ROUND) * _ROUND
    return min(rounded, spec.positions) if spec.positions else rounded


def _phases(spec: Spec, edits: Mapping[str, Edit] | Edits | None) -> list[dict[str, Edit]]:
    """The edits of the prompt and of the generated tokens, as pytrees: a function is static."""
    given = edits if isinstance(edits, Edits) else Edits(edits or {}, edits or {})
    for phase in given:
        check_taps(spec, phase)
    # A Partial of a Partial would be another function in every call, and be compiled again.
    tree = lambda edit: edit if isinstance(edit, Partial) else Partial(edit)
    return [{tap: tree(edit) for tap, edit in phase.items()} for phase in given]


@functools.partial(jax.jit, static_argnames=("spec", "room"))
def _read(
    spec: Spec, room: int, params: Any, tokens_BP, length_B, edits: Mapping[str, Edit], mask_BP
) -> tuple[jax.Array, decoder.Kept]:
    """The logits after the last token of each prompt, and the keys and values of all."""
    _, taps = decoder.forward(spec, params, tokens_BP, edits, mask_BP)
    final_BD = taps["final"][jnp.arange(len(tokens_BP)), length_B - 1]
    return decoder.unembed(spec, params, final_BD), decoder.keep(spec, params, taps, room)


@functools.partial(jax.jit, static_argnames="spec", donate_argnames="kept")
def _advance(
    spec: Spec, params: Any, token_B, position_B, kept, edits: Mapping[str, Edit]
) -> tuple[jax.Array, decoder.Kept]:
    """The logits after one more token of each sequence."""
    mask_B = jnp.ones(token_B.shape, bool)
    return decoder.step(spec, params, token_B, position_B, kept, edits, mask_B)
