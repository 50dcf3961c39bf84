"""Interventions on the latents of a prompt, and what they do to the logits and to the other latents.

    y_l <- y_l + sum_c (v_c - a_c) d_cl        at every MLP output l that latent c writes, at its positions

`freeze` says what stays as it was in the run without interventions:

    all          patterns, denominators and MLP outputs: direct effects, which the edges of a graph predict
    attention    patterns; a_c is then the activation in the changed run
    none         nothing

A transcoder's skip always passes changes on. Errors and tokens may be scaled. Where a cross-layer transcoder is
encoded, layers that the pass has not reached have their activations of the original run; only a TopK over
several layers notices.

Source: Ameisen et al. 2025, "Circuit tracing", validation by perturbation; circuit-tracer's
`feature_intervention`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import normalise
from dictlearn.circuits import _directions
from dictlearn.circuits._places import WRITES, Place
from dictlearn.circuits.local import Local
from dictlearn.lm import decoder
from dictlearn.lm.generate import Edits
from dictlearn.ops.firing import dense

FREEZE = ("all", "attention", "none")


class Change(NamedTuple):
    """A new activation of a latent: its layer, the positions (None for all), the latent, and its value."""

    layer: int
    position: int | None
    latent: int
    value: float


class Scaling(NamedTuple):
    """A factor of an error, or of the embedding of a token: "error" or "token", its layer (any for a token) and
    its position."""

    kind: str
    layer: int
    position: int
    factor: float


class Outcome(NamedTuple):
    """The changed run. logits_TV: its logits. pre_N: by how much the pre-activation of each latent of the
    prompt changed. values_N: their activations. reads_LTD: what stands at the read tap of every layer."""

    logits_TV: np.ndarray
    pre_N: np.ndarray
    values_N: np.ndarray
    reads_LTD: np.ndarray


def intervene(local: Local, changes: Sequence[Change | Scaling], freeze: str = "all") -> Outcome:
    """Runs the prompt again with interventions.

    Args:
        local: the local replacement model of the prompt.
        changes: the interventions, all at once.
        freeze: one of FREEZE.

    Returns:
        Outcome.

    Raises:
        ValueError: for an unknown `freeze`, a layer without a dictionary, and a position or a latent that does
            not exist.
    """
    if freeze not in FREEZE:
        raise ValueError(f"Unknown freeze {freeze!r}; known: {', '.join(FREEZE)}.")
    latents = [one for one in changes if isinstance(one, Change)]
    moves = [_move(local, one) for one in latents]
    added_LTD, embed_TD = _added(local, [one for one in changes if isinstance(one, Scaling)])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *moves) if moves else None
    logits_TV, reads_LTD = _run(
        *(local.lm.spec, local.read, freeze, _encoders(local, latents, freeze)),
        *(local.lm.params, _variables(local), local.tokens_T[None], _held(local, freeze)),
        *(jnp.asarray(local.reads_LTD), dict(local.skips), stacked, added_LTD, embed_TD),
    )
    moved_LTD = np.asarray(reads_LTD) - local.reads_LTD
    pre_N = (moved_LTD[local.latents_N3[:, 0], local.latents_N3[:, 1]] * local.rows_ND).sum(1)
    values_N = _values(local, reads_LTD)
    return Outcome(np.asarray(logits_TV), pre_N, values_N, np.asarray(reads_LTD))


class _Move(NamedTuple):
    """A change as arrays: its value, its positions, its activation before, its latent, and what it writes at
    each layer."""

    value: Any
    on_T: Any
    old_T: Any
    latent: Any
    atoms_LD: Any


def _move(local: Local, one: Change) -> _Move:
    place, at = _owner(local, one)
    length, width = local.embed_TD.shape
    if one.position is not None and not 0 <= one.position < length:
        raise ValueError(f"{one}: the positions are 0 to {length - 1}.")
    n, each = len(place.layers), place.dictionary.module.n_latents
    if not 0 <= one.latent < each or one.latent % n != at:
        steps = f", every {n}th from {at} on" if n > 1 else ""
        raise ValueError(f"{one}: the latents of this layer are 0 to {each - 1}{steps}.")
    on_T = np.ones(length, bool) if one.position is None else np.arange(length) == one.position
    old_T = _codes(local, place, local.reads_LTD)[:, one.latent]
    atoms_LD = np.zeros((local.lm.spec.n_layers, width), local.errors_LTD.dtype)
    own = _directions.atoms(place.dictionary, np.array([one.latent]), n, width)[0]
    atoms_LD[list(place.layers)] = own
    return _Move(np.asarray(one.value, own.dtype), on_T, old_T, one.latent, atoms_LD)


def _owner(local: Local, one: Change) -> tuple[Place, int]:
    for place in local.places:
        if one.layer in place.layers:
            return place, place.layers.index(one.layer)
    raise ValueError(f"{one}: no dictionary reads layer {one.layer}.")


def _codes(local: Local, place: Place, reads_LTD) -> np.ndarray:
    """The codes of a dictionary, `[T, F]`, from what stands at the read taps."""
    x_TE = jnp.concatenate([jnp.asarray(reads_LTD[layer]) for layer in place.layers], axis=-1)
    codes = place.dictionary.encode(x_TE)
    return np.asarray(dense(codes, place.dictionary.module.n_latents))


def _values(local: Local, reads_LTD) -> np.ndarray:
    """The activations of the latents of the prompt, from what stands at the read taps."""
    layer_N, position_N, latent_N = local.latents_N3.T
    values_N = np.zeros(len(layer_N), local.values_N.dtype)
    for place in local.places:
        own = np.isin(layer_N, place.layers)
        values_N[own] = _codes(local, place, reads_LTD)[position_N[own], latent_N[own]]
    return values_N


def _added(local: Local, scalings: Sequence[Scaling]) -> tuple[np.ndarray, np.ndarray]:
    """What the scaled errors and embeddings add: (at every MLP output, at the embedding)."""
    added_LTD, embed_TD = np.zeros_like(local.errors_LTD), np.zeros_like(local.embed_TD)
    n_layers, length = local.errors_LTD.shape[:2]
    for one in scalings:
        known = one.kind in ("error", "token") and 0 <= one.position < length
        if not known or (one.kind == "error" and not 0 <= one.layer < n_layers):
            raise ValueError(
                f"{one}: an 'error' has one of {n_layers} layers, it and a 'token' one of {length} positions."
            )
        if one.kind == "token":
            embed_TD[one.position] += (one.factor - 1) * local.embed_TD[one.position]
        else:
            at = one.layer, one.position
            added_LTD[at] += (one.factor - 1) * local.errors_LTD[at]
    return added_LTD, embed_TD


def _encoders(local: Local, changes: Sequence[Change], freeze: str) -> tuple:
    """(the module and the layers of each dictionary, the dictionary and the layer of each change): static.
    Where all is held nothing is encoded, and one program serves the changes of every layer."""
    modules = tuple((place.dictionary.module, place.layers) for place in local.places)
    if freeze == "all":
        return modules, ((0, 0),) * len(changes)
    layers = [place.layers for place in local.places]
    of = lambda one: next(i for i, own in enumerate(layers) if one.layer in own)
    return modules, tuple((of(one), one.layer) for one in changes)


def _variables(local: Local) -> list:
    return [(place.dictionary.norm, place.dictionary.variables) for place in local.places]


def _held(local: Local, freeze: str) -> dict[str, jax.Array]:
    if freeze == "all":
        return dict(local.held)
    patterns = {name: one for name, one in local.held.items() if name.startswith("pattern.")}
    return patterns if freeze == "attention" else {}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(spec, read, freeze, encoders, params, variables, tokens_1T, held, *arrays):
    """(logits `[T, V]`, what stands at the read taps `[L, T, D]`)."""
    before_LTD, skips, moves, added_LTD, embed_TD = arrays
    owners, direct = encoders[1], freeze == "all"
    codes = _Encoders(read, encoders[0], variables, before_LTD)

    def edit(layer: int):
        def changed(y_1TD, mask_1T, taps):
            new_TD = y_1TD[0] + added_LTD[layer]
            if direct and layer in skips:
                new_TD += (taps[f"{read}.{layer}"][0] - before_LTD[layer]) @ skips[layer].T
            for c, (owner, own) in enumerate(owners):
                if own <= layer:
                    one = jax.tree.map(lambda leaf, c=c: leaf[c], moves)
                    now_T = one.old_T if direct else codes(owner, layer, taps)[:, one.latent]
                    new_TD += _by(one, one.on_T, now_T, layer)
            return new_TD[None]

        return changed

    edits: dict[str, Any] = {f"{WRITES}.{layer}": edit(layer) for layer in range(spec.n_layers)}
    edits["embed"] = lambda x, *_: x + embed_TD
    logits_1TV, taps = decoder.forward(spec, params, tokens_1T, edits, held=held)
    return logits_1TV[0], jnp.stack([taps[f"{read}.{layer}"][0] for layer in range(spec.n_layers)])


class _Encoders(NamedTuple):
    """The codes `[T, F]` of a dictionary during a pass. modules: (module, layers) of each. before_LTD: what
    stands at the read taps of layers that the pass has not reached; None for zeros."""

    read: str
    modules: Any
    variables: Any
    before_LTD: Any = None

    def __call__(self, owner: int, layer: int, taps: Mapping) -> jax.Array:
        (module, layers), (norm, leaves) = self.modules[owner], self.variables[owner]
        here_TD = taps[f"{self.read}.{layer}"][0]
        later = lambda m: jnp.zeros_like(here_TD) if self.before_LTD is None else self.before_LTD[m]
        x = [taps[f"{self.read}.{m}"][0] if m <= layer else later(m) for m in layers]
        x_TE = jnp.asarray(normalise.forward(norm, jnp.concatenate(x, axis=-1))[0])
        return dense(module.apply(leaves, x_TE, method="encode"), module.n_latents)


def _by(one: _Move, on_T, now_T, layer: int) -> jax.Array:
    """What a change adds at the MLP output of a layer."""
    return jnp.where(on_T, one.value - now_T, 0)[:, None] * one.atoms_LD[layer]


def continuing(local: Local, changes: Sequence[Change]) -> Edits:
    """The edits of interventions for `lm.generate` with the prompt. Nothing is held.

    Args:
        local: the local replacement model of the prompt.
        changes: the interventions; those at all positions change every generated token too.

    Returns:
        Edits of the prompt and of the generated tokens. They read no mask, so the first token may change.

    Raises:
        ValueError: for a layer without a dictionary, and a position or a latent that does not exist.
    """
    asked = [(one, _move(local, one)) for one in changes]
    return Edits(_phase(local, asked, False), _phase(local, asked, True))


def _phase(local: Local, asked: Sequence[tuple[Change, _Move]], generated: bool) -> dict:
    """The edits of the prompt, or of generated tokens, which only changes at all positions change."""
    chosen = [pair for pair in asked if not (generated and pair[0].position is not None)]
    modules, owners = _encoders(local, [one for one, _ in chosen], "none")
    codes, length = _Encoders(local.read, modules, _variables(local)), len(local.tokens_T)

    def edit(layer: int):
        def changed(y_1TD, mask_1T, taps):
            new_TD = y_1TD[0]
            for (owner, own), (one, move) in zip(owners, chosen, strict=True):
                if own <= layer:
                    whole_T = jnp.pad(move.on_T, (0, max(len(new_TD) - length, 0)))
                    on_T = jnp.ones(1, bool) if generated else whole_T
                    now_T = codes(owner, layer, taps)[:, one.latent]
                    new_TD += _by(move, on_T, now_T, layer)
            return new_TD[None]

        return changed

    lowest = min((own for _, own in owners), default=local.lm.spec.n_layers)
    return {f"{WRITES}.{layer}": edit(layer) for layer in range(lowest, local.lm.spec.n_layers)}
