"""Reanimation: raises the bias of each dead latent until it fires.

    g(b_i) <- g(b_i) - c        for dead i

This adds the gradient of `-c mean_tokens sum_dead z_i` with respect to b. Latents that are not dead are
unchanged. Unlike AuxK, the rule reaches a latent whose pre-activations are all far below zero.

Source: the dead-code term of overcomplete and MP-SAE (Costa et al. 2025), there a term of the loss. Anthropic's
update of January 2025 has it for all latents, weighted by their atoms.

Differs: encoder rows do not get their part of this gradient. It is c times the mean of the batch about b_dec,
which is close to zero; without it, no dense pass is needed.
"""

import optax

from dictlearn.rules import _latents
from dictlearn.types import Scalar

KIND = "wrapper"


def reanimate(
    inner: optax.GradientTransformationExtraArgs, *, coefficient: Scalar = 1e-3
) -> optax.GradientTransformationExtraArgs:
    """The rule `inner`, which receives the changed gradient.

    Args:
        inner: the rule to wrap.
        coefficient: c. The bias of a dead latent has no other gradient, so under Adam any c well above the
            rule's eps moves it by a full step.

    Returns:
        An optax transformation.

    Raises:
        ValueError: at its `init`, for a variant without b_enc_F.
    """

    def init(params):
        _latents.require("reanimate", params, ("b_enc_F",))
        return inner.init(params)

    def update(updates, state, params=None, **extra):
        firing = extra["firing"]
        dead_F = firing.dead_F & (firing.count_F == 0)
        drawn = {**updates, "b_enc_F": updates["b_enc_F"] - coefficient * dead_F}
        return inner.update(drawn, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, update)
