"""Reanimation: the bias of a dead latent rises until it fires.

    g(b_i) <- g(b_i) - c        for dead i

the gradient with respect to b of `-c mean_tokens sum_dead z_i`, added to the rule's own. The living are not
touched. Unlike AuxK it reaches a latent whose pre-activations are all far below zero.

Source: the dead-code term of overcomplete and MP-SAE (Costa et al. 2025), there in the loss; Anthropic's update
of January 2025 has it for all latents, weighted by their atoms. Differs: encoder rows stay, whose part in that
gradient is c times the batch's mean about b_dec, close to zero; so no dense pass is needed.
"""

import optax

from dictlearn.rules import _latents
from dictlearn.types import Scalar

KIND = "wrapper"


def reanimate(
    inner: optax.GradientTransformationExtraArgs, *, coefficient: Scalar = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """Wraps the rule `inner`, which sees the changed gradient. coefficient: c. Under Adam any c well above
    the rule's eps moves the bias of a dead latent, whose gradient is otherwise zero, by a full step.
    Raises ValueError for a variant without b_enc_F."""

    def init(params):
        _latents.require("reanimate", params, ("b_enc_F",))
        return inner.init(params)

    def update(updates, state, params=None, **extra):
        firing = extra["firing"]
        dead_F = firing.dead_F & (firing.count_F == 0)
        drawn = {**updates, "b_enc_F": updates["b_enc_F"] - coefficient * dead_F}
        return inner.update(drawn, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, update)
