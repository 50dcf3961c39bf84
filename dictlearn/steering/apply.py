"""Interventions as edits of a language model, for the prompt and for generated tokens.

The latents are encoded once, from the activation without any intervention, and the interventions change them in
order. Interventions on different latents therefore commute. Directions follow, in order. An activation whose
latents keep their values is unchanged to the bit, because what is added is the decoded difference.

Arrays (values, latents, masks, the dictionary) are leaves of the edit, so one program serves every latent and
every strength.

Axes: n the latents that interventions name; the others as in `dictlearn.lm.generate`.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dictlearn import normalise
from dictlearn.lm import LM, Edits, Prompts
from dictlearn.runs import on_texts
from dictlearn.runs.atoms import atoms_of
from dictlearn.runs.trained import Trained, place, reconstruct
from dictlearn.steering.intervention import Intervention, several
from dictlearn.steering.pushes import pushes, writes_several
from dictlearn.steering.tokens import changed, changed_later
from dictlearn.types import Codes, Dictionary

_NEW = {
    "set": lambda f, v: v,
    "scale": lambda f, v: v * f,
    "add": lambda f, v: f + v,
    "clamp_min": jnp.maximum,
    "clamp_max": jnp.minimum,
    "clamp_if_active": lambda f, v: jnp.where(f != 0, v, f),
    "swap": lambda f, v: v,
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Change:
    """An intervention with its arrays. columns: its latents, as indices of the latents that all name. mask: the
    tokens that it changes, `[B, T]`. value: broadcasts to `[B, T, latents]`, or to `[B, T, 1]` for a direction.
    basis_ED: an orthonormal basis, or one direction; None for latents.
    """

    op: str = dataclasses.field(metadata={"static": True})
    columns: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    error: bool = dataclasses.field(metadata={"static": True})
    mask: Any
    value: Any
    basis_ED: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Plan:
    """All interventions on one dictionary. latents_n: the latents that they name. read: the tap that the
    dictionary reads."""

    module: Dictionary = dataclasses.field(metadata={"static": True})
    read: str = dataclasses.field(metadata={"static": True})
    norm: normalise.Norm
    variables: Any
    latents_n: Any
    changes: tuple[_Change, ...]


def edits_of(
    lm: LM,
    dictionary: Trained,
    interventions: Intervention | Sequence[Intervention],
    prompts: Prompts,
    strength: float | np.ndarray = 1.0,
) -> Edits:
    """The edits that make interventions on a dictionary, for `lm.generate` or a forward pass.

    Args:
        lm: the language model.
        dictionary: a dictionary that reads one tap and writes one, as its site says; for "add" on latents it
            may write several.
        interventions: in the order in which they apply.
        prompts: the prompts, for the tokens that change.
        strength: the value of interventions without one, one number or one for each prompt.

    Returns:
        Edits. Give `whole(prompts)` as their mask.

    Raises:
        ValueError: for a dictionary without a site, or with several taps for another op than "add", a latent
            that it does not have, a direction of another width, and a place outside a prompt.
    """
    chosen = several(interventions)
    latents = sorted({latent for one in chosen for latent in one.latents})
    _check(dictionary, chosen, latents)
    strength_B = np.broadcast_to(np.asarray(strength, np.float32), prompts.length_B.shape)
    if writes_several(dictionary):
        return pushes(dictionary, chosen, prompts, strength_B)
    read, written = place(dictionary)
    values = [_value(lm, dictionary, one, strength_B) for one in chosen]
    bases = [_basis(dictionary, one) for one in chosen]

    def phase(masks: Sequence[np.ndarray]) -> dict[str, Any]:
        if not any(mask.any() for mask in masks):
            return {}
        changes = [
            _Change(one.op, _columns(one, latents), one.error, mask, value, basis)
            for one, mask, value, basis in zip(chosen, masks, values, bases, strict=True)
        ]
        return {written: Partial(_apply, _plan(dictionary, read, latents, changes))}

    return Edits(
        phase([changed(one, prompts) for one in chosen]),
        phase([changed_later(one, prompts) for one in chosen]),
    )


def whole(prompts: Prompts) -> np.ndarray:
    """The mask of all tokens of the prompts: interventions have masks of their own.

    Args:
        prompts: the prompts.

    Returns:
        The mask, in the shape of `prompts.tokens_BP`.

    Example:
        >>> whole(Prompts(np.array([[5, 6, 6]]), np.array([2])))
        array([[ True,  True, False]])
    """
    return np.arange(prompts.tokens_BP.shape[1]) < prompts.length_B[:, None]


def _plan(dictionary: Trained, read: str, latents: list[int], changes: list[_Change]) -> _Plan:
    latents_n = np.array(latents, np.int32)
    return _Plan(
        dictionary.module, read, dictionary.norm, dictionary.variables, latents_n, tuple(changes)
    )


def _columns(one: Intervention, latents: list[int]) -> tuple[int, ...]:
    return tuple(latents.index(latent) for latent in one.latents)


def _check(dictionary: Trained, chosen: Sequence[Intervention], latents: list[int]) -> None:
    module, width = dictionary.module, dictionary.module.d_out or dictionary.module.d_in
    if latents and latents[-1] >= module.n_latents:
        raise ValueError(f"Latent {latents[-1]} of a dictionary with {module.n_latents} latents.")
    if module.reads_gradient:
        raise ValueError(
            f"{dictionary.name!r} reads gradients, which a forward pass does not have."
        )
    for one in chosen:
        if one.direction and len(one.direction) != width:
            raise ValueError(f"A direction of {len(one.direction)} at a tap of width {width}.")


def _value(lm: LM, dictionary: Trained, one: Intervention, strength_B: np.ndarray) -> np.ndarray:
    """The value of an intervention, `[1 or B, 1, 1 or n]`."""
    if one.op == "swap":
        return codes_at_end(lm, dictionary, one.source)[None, None, list(one.latents)]
    if one.value is None:
        return strength_B[:, None, None]
    return np.atleast_1d(np.asarray(one.value, np.float32))[None, None]


def _basis(dictionary: Trained, one: Intervention) -> np.ndarray | None:
    if one.direction:
        rows_ED = np.asarray([one.direction], np.float32)
    elif one.op == "project_out":
        rows_ED = atoms_of(dictionary, one.latents)
    else:
        return None
    return np.linalg.qr(rows_ED.T)[0].T if one.op == "project_out" else rows_ED


def codes_at_end(lm: LM, dictionary: Trained, text: str) -> np.ndarray:
    """The latents on the last token of a text.

    Args:
        lm: the language model.
        dictionary: a dictionary that reads one tap.
        text: the text; the separator of documents is put before it.

    Returns:
        `[F]`, in units of the dictionary's codes.
    """
    tokens, (read, _) = lm.tokenizer.encode(text, add_special_tokens=False).ids, place(dictionary)
    return on_texts.codes(dictionary, lm, [read], [tokens])[0][-1]


def _at(codes: Codes, latents_n: jax.Array) -> jax.Array:
    """The values of some latents, `[B, n]`."""
    if codes.idx_BK is None:
        return codes.val[:, latents_n]
    return jnp.where(codes.idx_BK[..., None] == latents_n, codes.val[..., None], 0).sum(1)


def _apply(plan: _Plan, y_BTD: jax.Array, mask_BT: jax.Array, taps: Mapping[str, jax.Array]):
    """The edit."""
    x_BTD = taps[plan.read]
    wide = jnp.promote_types(y_BTD.dtype, jnp.float32)
    x_XD = x_BTD.reshape(-1, x_BTD.shape[-1]).astype(wide)
    new_BTD = y_BTD.astype(wide)
    coded = [one for one in plan.changes if one.basis_ED is None]
    if coded:
        new_BTD = _based(plan, coded, x_XD, new_BTD, mask_BT)
        new_BTD = new_BTD + _moved_by(plan, coded, x_XD, mask_BT).reshape(y_BTD.shape)
    for one in plan.changes:
        if one.basis_ED is not None:
            moved_BTD = _moved(one, new_BTD)
            new_BTD = jnp.where((mask_BT & one.mask)[..., None], moved_BTD, new_BTD)
    # A sum with 0.0 would change the sign of -0.0.
    return jnp.where(new_BTD == y_BTD, y_BTD, new_BTD.astype(y_BTD.dtype))


def _based(plan: _Plan, coded: list[_Change], x_XD, y_BTD, mask_BT) -> jax.Array:
    """The activation to which differences are added: the reconstruction where the error goes."""
    gone = [mask_BT & one.mask for one in coded if not one.error]
    if not gone:
        return y_BTD
    yhat_XD, _ = reconstruct(plan.module, plan.norm, plan.variables, x_XD)
    gone_BT1 = functools.reduce(jnp.logical_or, gone)[..., None]
    return jnp.where(gone_BT1, yhat_XD.reshape(y_BTD.shape), y_BTD)


def _moved(one: _Change, x_BTD: jax.Array) -> jax.Array:
    if one.op == "add":
        return x_BTD + one.value * one.basis_ED[0]
    # Sums, not matrix products: those round their inputs to bfloat16 on some devices.
    along_BTE = (x_BTD[..., None, :] * one.basis_ED).sum(-1)
    return x_BTD - (along_BTE[..., None] * one.basis_ED).sum(-2)


def _moved_by(plan: _Plan, coded: list[_Change], x_XD: jax.Array, mask_BT) -> jax.Array:
    """What the changed latents add to the raw activation."""
    normed_XD, undo = normalise.forward(plan.norm, x_XD)
    codes = plan.module.apply(plan.variables, normed_XD, method="encode")
    difference = _difference(plan, coded, cast(Codes, codes), mask_BT)
    decode = lambda codes: undo(plan.module.apply(plan.variables, codes, method="decode"))
    # The same operations on zeros: without a difference the result is 0.0 to the bit.
    return decode(difference) - decode(difference._replace(val=jnp.zeros_like(difference.val)))


def _difference(plan: _Plan, coded: list[_Change], codes: Codes, mask_BT: jax.Array) -> Codes:
    """The change of every latent that changes."""
    old_Xn = _at(codes, plan.latents_n)
    new_BTn = old_Xn.reshape(*mask_BT.shape, -1)
    others_BT = jnp.ones(mask_BT.shape, codes.val.dtype)
    for one in coded:
        at_BT, columns = mask_BT & one.mask, list(one.columns)
        if one.op == "mask":
            kept_n = np.isin(np.arange(new_BTn.shape[-1]), columns)
            new_BTn = jnp.where(at_BT[..., None] & ~kept_n, 0, new_BTn)
            others_BT = jnp.where(at_BT, 0, others_BT)
            continue
        f_BTn = new_BTn[..., columns]
        new_BTn = new_BTn.at[..., columns].set(
            jnp.where(at_BT[..., None], _NEW[one.op](f_BTn, one.value), f_BTn)
        )
    change_Xn = new_BTn.reshape(old_Xn.shape) - old_Xn
    idx_Xn = jnp.broadcast_to(plan.latents_n, change_Xn.shape)
    if not any(one.op == "mask" for one in coded):
        return Codes(change_Xn, idx_Xn)
    rest = codes.val * (others_BT.reshape(-1, 1) - 1)
    if codes.idx_BK is None:
        return Codes(rest.at[:, plan.latents_n].set(change_Xn))
    named_XK = (codes.idx_BK[..., None] == plan.latents_n).any(-1)
    rest_XK = jnp.where(named_XK, 0, rest)
    return Codes(
        jnp.concatenate([change_Xn, rest_XK], 1), jnp.concatenate([idx_Xn, codes.idx_BK], 1)
    )
