"""Small states of every kind of leaf, and what happens to the files of their checkpoints."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import Checkpoints


def state_at(step, *, d=8):
    """A small state of every kind of leaf, different at every step."""
    W_DF = jax.random.normal(jax.random.key(step), (d, 16))
    params = {"W_enc_DF": W_DF, "b_enc_F": jnp.full(16, step, jnp.bfloat16)}
    return {
        "params": params,
        "rule": optax.adam(1e-3).init(params),
        "count_F": jnp.arange(16, dtype=jnp.int32) * step,
        "keys_N": jax.random.split(jax.random.key(step + 100), 3),
        "nothing": None,
    }


def assert_equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def like(state):
    """A target that is `state`, whatever the meta says."""
    return lambda meta: state


def save_steps(directory, *steps, keep=3):
    with Checkpoints(directory, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_at(step), {"position": step})
    return directory


def restored_step(directory, *, d=8):
    """The step that `restore` finds, its values checked against that step's."""
    with Checkpoints(directory) as checkpoints:
        found = checkpoints.restore(like(state_at(0, d=d)))
    if found is None:
        return None
    step, state, meta = found
    assert meta == {"position": step}
    assert_equal(state, state_at(step, d=d))
    return step


def files_in(path):
    return sorted(file for file in path.rglob("*") if file.is_file())


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def flip(file):
    content = bytearray(file.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def delete(file):
    file.unlink()


def sha256sum(step):
    names = sorted(str(file.relative_to(step)) for file in files_in(step) if file.name != SEAL)
    digests = [hashlib.sha256((step / name).read_bytes()).hexdigest() for name in names]
    return "".join(f"{d}  {n}\n" for d, n in zip(digests, names, strict=True))
