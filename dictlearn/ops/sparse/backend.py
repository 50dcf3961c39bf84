"""Which form of an operation a program takes: by the platform that it is lowered for, read in one table.

A program that is exported, or compiled ahead of time for another device, so has the forms of the device it will
run on. Platforms that the table does not name take the form of `cpu`. To change a form, change its entry;
`python benchmarks/kernels.py` measures all forms of every operation on the backend at hand.

How each entry was chosen (figures in docs/benchmarks.md):

cpu: measured.
tpu: compiled for v5e and v6e, by the compiler's count of bytes, operations and seconds; never run. Of scatters
    of rows its count is no guide (below zero at large sizes): `rows_add` takes the form that its transpose has,
    at one encoder matmul at most.
cuda: compiled for an H100, by the number of kernels and the temporary memory; never run. `kernel` (ops/kernels)
    is tested in Pallas' interpreter and compiled to machine code, and no GPU has run it: so it is no default.
    `scattered` adds atomically, in no fixed order: for runs that repeat to the bit set
    `XLA_FLAGS=--xla_gpu_deterministic_ops=true` or choose `kernel`, which has a fixed order. Programs with
    kernels need `jax.export`'s check of custom calls turned off to be serialised.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial

from jax import lax

FORMS = {
    "rows_sum": {"cpu": "loop", "cuda": "unrolled", "tpu": "matmul"},
    "rows_dot": {"cpu": "loop", "cuda": "gathered", "tpu": "matmul"},
    "rows_add": {"cpu": "loop", "cuda": "scattered", "tpu": "matmul"},
    "top_k": {"cpu": "two_stages", "cuda": "two_stages", "tpu": "one_stage"},
}


def by_platform(operation: str, forms: Mapping[str, Callable], *arrays, **fixed):
    """`operation` in the form, of `forms`, that FORMS names for the platform this is lowered for.

    fixed: keyword arguments of every form that are no arrays. Raises KeyError for a form that is none."""
    named = FORMS[operation]
    at = {platform: _bound(forms[name], *fixed.items()) for platform, name in named.items()}
    plain = at.pop("cpu")
    other = {platform: form for platform, form in at.items() if form is not plain}
    return lax.platform_dependent(*arrays, default=plain, **other) if other else plain(*arrays)


@cache
def _bound(form: Callable, *fixed) -> Callable:
    """One object for the same form and arguments, by which JAX knows that it has traced it before."""
    return partial(form, **dict(fixed)) if fixed else form
