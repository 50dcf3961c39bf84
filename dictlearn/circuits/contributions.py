"""What adds up to a direction of the residual stream, or to a latent, on one prompt: direct contributions.

    <n, x_t> = sum_i z_i <n, d_i>                           latents of earlier transcoders at token t
             + sum_{l,h,s} A^h[t,s] <n, v_s^h W_O^h>        heads of earlier layers, by source token
             + <n, E_t> + <n, P_t> + errors + biases        embeddings, and what nothing explains

A latent j of a later layer is n = w_enc,j with the gain and the denominator of its norm. Each contribution is
itself a product with a direction of an earlier layer, so it can be followed: latent i by w_enc,i <n, d_i>,
head h by W_V^h W_O^h n A^h[t,s] at token s, each through its norm. Contributions to a followed direction are in
the units of the first one. Attention patterns and denominators are constant.

Source: Dunefsky et al. 2024, "Transcoders find interpretable LLM feature circuits" (arXiv:2406.11944), section
4.1; code of 8721ff0.
Differs: the denominator of a norm is exact, with the mean subtracted from n where the norm subtracts it; there
it is the ratio of <n, norm(x)> to <n, x>. Errors, skips and biases are contributions too, so that all add up.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dictlearn.circuits import _pulls
from dictlearn.circuits.local import Local, run

KINDS = ("latent", "head", "skip", "token", "position", "error", "bias")
FOLLOWED = ("latent", "head", "skip")
"""Kinds that further contributions add up to."""


class Reader(NamedTuple):
    """What is explained: <row_D, residual stream> plus a bias, at one token. The stream is that before the
    block of a layer, or with `mid` that after its attention."""

    layer: int
    mid: bool
    position: int
    row_D: np.ndarray
    bias: float


class Contribution(NamedTuple):
    """A part of what is explained. kind: one of KINDS. layer: -1 for embeddings. index: the latent, the head,
    otherwise -1. position: the token that it is at, or that its head reads. value: what it adds."""

    kind: str
    layer: int
    index: int
    position: int
    value: float


class Linear:
    """The linear model of one prompt.

    Args:
        found: the local replacement model. With `n_ignored=0` all latents and errors are in it; those of
            ignored tokens are a part of the biases otherwise.
    """

    def __init__(self, found: Local):
        self.found, self.spec, self.params = found, found.lm.spec, found.lm.params
        taps, _, _ = run(self.spec, self.params, found.tokens_T[None])
        self._taps = {name: _pulls.wide(tap) for name, tap in taps.items()}
        self._place = {tuple(one): i for i, one in enumerate(found.latents_N3.tolist())}
        self._position_TD = self._taps["embed"] - found.embed_TD
        self._values = functools.cache(self._values_of)
        self._rest = functools.cache(self._rest_of)

    def latent(self, layer: int, position: int, latent: int) -> Reader:
        """An active latent as what is explained: its pre-activation.

        Args:
            layer: the layer that it reads.
            position: the token.
            latent: its number in the dictionary.

        Returns:
            The reader.

        Raises:
            ValueError: for a latent that is not active there.
        """
        if (layer, position, latent) not in self._place:
            raise ValueError(f"Latent {latent} of layer {layer} is not active at token {position}.")
        return self._read(self._place[layer, position, latent], 1.0)

    def logit(self, row_D: Float[np.ndarray, " D"], position: int) -> Reader:
        """A direction after the last norm as what is explained, such as the unembedding of a token.

        Args:
            row_D: the direction, as of `logits.targets`.
            position: the token.

        Returns:
            The reader.
        """
        size = float(np.asarray(self.found.held["norm"])[0, position, 0])
        pulled_D, bias = _pulls.norm(self.spec, self.params, "norm", row_D, size)
        return Reader(self.spec.n_layers, False, position, pulled_D, float(bias))

    def contributions(self, reader: Reader) -> list[Contribution]:
        """All that adds up to what is explained.

        Args:
            reader: what is explained.

        Returns:
            The contributions that are not zero. Their sum is the value of what is explained.
        """
        at, row_D = reader.position, reader.row_D
        found = [*self._latents(reader), *self._heads(reader)]
        for layer in range(reader.layer):
            skip_DD = self.found.skips.get(layer)
            if skip_DD is not None:
                read_D = self.found.reads_LTD[layer, at]
                found.append(_leaf("skip", layer, at, row_D @ (skip_DD @ read_D)))
            found.append(_leaf("error", layer, at, row_D @ self.found.errors_LTD[layer, at]))
            found.append(_leaf("bias", layer, at, row_D @ self._rest(layer)[at]))
        found.append(_leaf("token", -1, at, row_D @ self.found.embed_TD[at]))
        found.append(_leaf("position", -1, at, row_D @ self._position_TD[at]))
        found.append(_leaf("bias", reader.layer, at, reader.bias))
        return [one for one in found if one.value]

    def follow(self, reader: Reader, one: Contribution) -> Reader:
        """A contribution as what is explained, in the units of the reader.

        Args:
            reader: what it contributes to.
            one: a contribution of one of the kinds FOLLOWED.

        Returns:
            The reader of which it is the value.

        Raises:
            ValueError: for another kind.
        """
        if one.kind == "latent":
            i = self._place[one.layer, one.position, one.index]
            return self._read(i, float(self._weights(reader)[i]))
        if one.kind == "skip":
            row_D = reader.row_D @ self.found.skips[one.layer]
            return self._before(row_D, one.layer, one.position, 0.0)
        if one.kind == "head":
            return self._through_head(reader, one)
        raise ValueError(f"A contribution of kind {one.kind!r} has no parts; {FOLLOWED} have.")

    def _latents(self, reader: Reader) -> list[Contribution]:
        weight_N, found = self._weights(reader), self.found
        rows = [(found.latents_N3[i].tolist(), i) for i in np.flatnonzero(weight_N)]
        return [
            Contribution("latent", layer, latent, at, float(found.values_N[i] * weight_N[i]))
            for (layer, at, latent), i in rows
        ]

    def _weights(self, reader: Reader) -> np.ndarray:
        """What each latent at the token adds at an activation of 1, by all earlier layers that it writes."""
        weight_N = np.zeros(len(self.found.values_N), reader.row_D.dtype)
        here_N = self.found.latents_N3[:, 1] == reader.position
        for layer, (own, atoms_ND) in self.found.atoms.items():
            if layer < reader.layer:
                weight_N[own] += here_N[own] * (atoms_ND @ reader.row_D)
        return weight_N

    def _heads(self, reader: Reader) -> list[Contribution]:
        found = []
        for layer in range(reader.layer + reader.mid):
            row_hw, bias = self._output(reader, layer)
            val_hS = self._pattern(layer)[:, reader.position] * np.einsum(
                "shw,hw->hs", self._values(layer), row_hw
            )
            found.append(_leaf("bias", layer, reader.position, bias))
            for h, s in np.argwhere(val_hS).tolist():
                found.append(Contribution("head", layer, h, s, float(val_hS[h, s])))
        return found

    def _output(self, reader: Reader, layer: int) -> tuple[np.ndarray, float]:
        """The direction of the heads' outputs, and what the bias adds."""
        size = self.found.held.get(f"attn_post_norm.{layer}")
        own = 1.0 if size is None else float(np.asarray(size)[0, reader.position, 0])
        row_hw, bias = _pulls.heads(
            self.spec, self.params[f"block_{layer}"], reader.row_D[None], own
        )
        return row_hw[0], float(bias[0])

    def _through_head(self, reader: Reader, one: Contribution) -> Reader:
        block = self.params[f"block_{one.layer}"]
        row_hw, _ = self._output(reader, one.layer)
        share = float(self._pattern(one.layer)[one.index, reader.position, one.position])
        rows_hD, bias_h = _pulls.values(self.spec, block, share * row_hw)
        size = self._size("attn_norm", one.layer, one.position)
        row_D, bias = _pulls.norm(self.spec, block, "attn_norm", rows_hD[one.index], size)
        return Reader(one.layer, False, one.position, row_D, float(bias + bias_h[one.index]))

    def _read(self, i: int, weight: float) -> Reader:
        """The reader of a latent, times a weight."""
        layer, position, _ = self.found.latents_N3[i].tolist()
        row_D = self.found.rows_ND[i]
        bias = self.found.values_N[i] - row_D @ self.found.reads_LTD[layer, position]
        return self._before(weight * row_D, layer, position, weight * float(bias))

    def _before(self, row_D: np.ndarray, layer: int, position: int, bias: float) -> Reader:
        """The reader of a direction at the tap that the dictionaries read."""
        read, parallel = self.found.read, self.spec.parallel
        mid = read == "resid_mid" or (read == "mlp_in" and not parallel)
        if read == "resid_mid":
            return Reader(layer, mid, position, row_D, bias)
        name = read.replace("_in", "_norm")
        block, size = self.params[f"block_{layer}"], self._size(name, layer, position)
        pulled_D, added = _pulls.norm(self.spec, block, name, row_D, size)
        return Reader(layer, mid, position, pulled_D, bias + float(added))

    def _size(self, name: str, layer: int, position: int) -> float:
        return float(np.asarray(self.found.held[f"{name}.{layer}"])[0, position, 0])

    def _pattern(self, layer: int) -> np.ndarray:
        length = len(self.found.tokens_T)
        pattern = np.asarray(self.found.held[f"pattern.{layer}"])
        return pattern.reshape(self.spec.n_heads, length, length)

    def _values_of(self, layer: int) -> np.ndarray:
        """The values `[T, h, w]` of every head."""
        block, length = self.params[f"block_{layer}"], len(self.found.tokens_T)
        v_TG = self._taps[f"attn_in.{layer}"] @ _pulls.wide(block["W_v_DG"])
        v_TG = v_TG + (_pulls.wide(block["b_v_G"]) if "b_v_G" in block else 0)
        v_Tgw = v_TG.reshape(length, self.spec.n_kv_heads, self.spec.head_dim)
        return np.repeat(v_Tgw, self.spec.n_heads // self.spec.n_kv_heads, axis=1)

    def _rest_of(self, layer: int) -> np.ndarray:
        """The part `[T, D]` of an MLP's output that is no latent, no skip and no error."""
        found = self.found
        rest_TD = self._taps[f"mlp_out.{layer}"] - found.errors_LTD[layer]
        if layer in found.skips:
            rest_TD = rest_TD - found.reads_LTD[layer] @ found.skips[layer].T
        if layer in found.atoms:
            own, atoms_ND = found.atoms[layer]
            np.subtract.at(rest_TD, found.latents_N3[own, 1], found.values_N[own, None] * atoms_ND)
        return rest_TD


def _leaf(kind: str, layer: int, position: int, value) -> Contribution:
    return Contribution(kind, layer, -1, position, float(value))
