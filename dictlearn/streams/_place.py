"""Placement of batches on the mesh, and the sample of the stream that a learner starts from."""

import dataclasses

import jax
import numpy as np

from dictlearn import sharding
from dictlearn.streams import Stream
from dictlearn.types import Batch

INIT_TOKENS = 32_768
"""Tokens of the sample that a learner's `init` sees (its decoder bias starts at their median)."""


def place(batch: Batch, mesh, lead: str = "") -> Batch:
    """Turns this process's part of a batch into global arrays on `mesh`. If y is x, it stays the same array.

    lead: the letter of an additional leading axis.
    """
    same = batch.y_BD is batch.x_BD
    parts = batch._replace(y_BD=None) if same else batch
    if batch.context is not None:
        parts = parts._replace(context=dataclasses.replace(batch.context, params=None))
    abstract = jax.tree.map(lambda a: np.broadcast_to(0, a.shape), parts)
    placed = sharding.shardings(abstract, mesh, lead)
    found = jax.tree.map(jax.make_array_from_process_local_data, placed, parts)
    if batch.context is not None:
        whole = dataclasses.replace(found.context, params=batch.context.params)
        found = found._replace(context=whole)
    return found._replace(y_BD=found.x_BD) if same else found


def sample(stream: Stream, mesh) -> Batch:
    """The first batches of the stream, INIT_TOKENS tokens or one epoch, in the order of one process."""
    rows = INIT_TOKENS if stream.n_rows is None else min(INIT_TOKENS, stream.n_rows)
    first = stream.batch(0)
    n = max(1, rows // len(first.x_BD) // sharding.share(mesh)[1])
    batches = [first, *(stream.batch(t) for t in range(1, n))]
    stack = lambda name: np.stack([getattr(batch, name) for batch in batches])
    same = first.y_BD is first.x_BD
    tall = place(Batch(stack("x_BD"), None if same else stack("y_BD")), mesh, lead="K")
    flat = lambda batch: jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), batch)
    placed = sharding.shardings(jax.eval_shape(flat, tall), mesh)
    found = jax.jit(flat, out_shardings=placed)(tall)
    return found._replace(y_BD=found.x_BD) if same else found
