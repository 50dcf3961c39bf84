"""The jump and the step at a threshold, with straight-through gradients for the threshold.

    jump = z [z > theta]      d/dz = [z > theta]      d/dtheta = -(theta / eps) K((z - theta) / eps)
    step = [z > theta]        d/dz = 0                d/dtheta = -(1 / eps)     K((z - theta) / eps)
    l0   = sum of step

Summed over tokens this is a kernel estimate of the density of z at theta, so its mean is the gradient of
the expected loss. The kernels K have integral 1: "rectangle" [|u| < 1/2], "triangle" max(0, 1 - |u|),
"gaussian". eps is a width on the scale of z: when the input is scaled, scale it too.

Source: Rajamanoharan et al. 2024 (arXiv:2407.14435), sections 3 and 4.

Differs: the window is about z itself; the authors' code uses ReLU(z), whose mass at 0 falls into the
window where theta < eps / 2.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.ops import blocks
from dictlearn.types import Scalar

KERNELS = {
    "rectangle": lambda u: (jnp.abs(u) < 0.5).astype(u.dtype),
    "triangle": lambda u: jnp.maximum(0.0, 1 - jnp.abs(u)),
    "gaussian": lambda u: jnp.exp(-(u**2) / 2) / math.sqrt(2 * math.pi),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def jump(
    z_BF: Float[Array, "B F"],
    threshold_F: Float[Array, "... F"],
    bandwidth: Scalar,
    kernel: str = "rectangle",
    window: bool = False,
) -> Float[Array, "B F"]:
    """`z [z > threshold]`. threshold_F: one for each latent, or for each entry, `[B, F]`. window: z also
    receives the smoothed gradient of the jump, `+(theta / eps) K`, on both sides of the threshold."""
    return jnp.where(z_BF > threshold_F, z_BF, 0)


def _jump_fwd(z_BF, threshold_F, bandwidth, kernel, window):
    return jump(z_BF, threshold_F, bandwidth, kernel, window), (z_BF, threshold_F, bandwidth)


def _jump_bwd(kernel, window, saved, g_BF):
    z_BF, threshold_F, bandwidth = saved
    through_BF = g_BF * (threshold_F * _density(z_BF, threshold_F, bandwidth, kernel))
    z_bar_BF = jnp.where(z_BF > threshold_F, g_BF, 0) + (through_BF if window else 0)
    through = through_BF if threshold_F.ndim > 1 else through_BF.sum(0)
    return z_bar_BF.astype(z_BF.dtype), -through.astype(threshold_F.dtype), None


jump.defvjp(_jump_fwd, _jump_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def step(
    z_BF: Float[Array, "B F"],
    threshold_F: Float[Array, "... F"],
    bandwidth: Scalar,
    kernel: str = "rectangle",
) -> Float[Array, "B F"]:
    """`[z > threshold]` as 0 and 1. threshold_F: as in `jump`."""
    return (z_BF > threshold_F).astype(z_BF.dtype)


def _step_fwd(z_BF, threshold_F, bandwidth, kernel):
    return step(z_BF, threshold_F, bandwidth, kernel), (z_BF, threshold_F, bandwidth)


def _step_bwd(kernel, saved, g_BF):
    z_BF, threshold_F, bandwidth = saved
    through_BF = g_BF * _density(z_BF, threshold_F, bandwidth, kernel)
    through = through_BF if threshold_F.ndim > 1 else through_BF.sum(0)
    return jnp.zeros_like(z_BF), -through.astype(threshold_F.dtype), None


step.defvjp(_step_fwd, _step_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def l0(
    z_BF: Float[Array, "B F"],
    threshold_F: Float[Array, " F"],
    bandwidth: Scalar,
    kernel: str = "rectangle",
) -> Float[Array, " B"]:
    """The sum of `step` over F."""
    count = lambda z_BF: jnp.sum(z_BF > threshold_F, axis=1, dtype=jnp.float32)
    return blocks.each(count, z_BF).astype(z_BF.dtype)


def _l0_fwd(z_BF, threshold_F, bandwidth, kernel):
    return l0(z_BF, threshold_F, bandwidth, kernel), (z_BF, threshold_F, bandwidth)


def _l0_bwd(kernel, saved, g_B):
    z_BF, threshold_F, bandwidth = saved
    through = lambda z, g: (g[:, None] * _density(z, threshold_F, bandwidth, kernel)).sum(0)
    through_F = blocks.summed(through, z_BF, g_B)
    return jnp.zeros_like(z_BF), -through_F.astype(threshold_F.dtype), None


l0.defvjp(_l0_fwd, _l0_bwd)


def reach(bandwidth: Scalar, kernel: str) -> Scalar:
    """The distance below a threshold at which the kernel ends: entries further below have no effect."""
    return {"rectangle": 0.5, "triangle": 1.0, "gaussian": math.inf}[kernel] * bandwidth


def _density(z_BF, threshold_F, bandwidth, kernel):
    """`K((z - theta) / eps) / eps`, in float32 or wider."""
    wide = jnp.promote_types(z_BF.dtype, jnp.float32)
    away_BF = z_BF.astype(wide) - threshold_F.astype(wide)
    return KERNELS[kernel](away_BF / bandwidth) / bandwidth
