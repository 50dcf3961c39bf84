"""One table chooses the form of each sparse operation, by the platform that a program is lowered for.

A program that is exported, or compiled ahead of time for another device, therefore has the forms of its
target device. Platforms that are not in the table take the form of `cpu`. To change a form, change its
entry; `python benchmarks/forms.py` measures all forms of every operation on the current backend.

How each entry was chosen (figures in docs/benchmarks.md):

cpu: measured.
tpu: compiled for v5e and v6e, by the compiler's count of bytes, operations and seconds; never run. The count
    is unreliable for scatters of rows (below zero at large sizes): `rows_add` takes the form of its
    transpose, which costs at most one encoder matmul.
cuda: compiled for an H100, by the number of kernels and the temporary memory; never run. XLA makes one kernel
    of each of the first two, without temporaries, so that a kernel by hand has nothing to save. `scattered`
    adds atomically, in no fixed order: for bit-reproducible runs set
    `XLA_FLAGS=--xla_gpu_deterministic_ops=true`.
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
    """`operation` in the form, one of `forms`, that FORMS names for the platform that this is lowered for.

    fixed: keyword arguments of every form that are not arrays. Raises KeyError for an unknown form.
    """
    named = FORMS[operation]
    at = {platform: _bound(forms[name], *fixed.items()) for platform, name in named.items()}
    plain = at.pop("cpu")
    other = {platform: form for platform, form in at.items() if form is not plain}
    return lax.platform_dependent(*arrays, default=plain, **other) if other else plain(*arrays)


@cache
def _bound(form: Callable, *fixed) -> Callable:
    """The same object for the same form and arguments, so that JAX recognises it and does not trace it
    twice."""
    return partial(form, **dict(fixed)) if fixed else form
