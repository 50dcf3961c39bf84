"""Dictionaries over several layers or models: properties that conformance does not test."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, experiment
from dictlearn.ops import jumprelu
from dictlearn.train import open_stream, place
from dictlearn.types import Codes
from tests.helpers import mesh_of, planted_config


def made(name, **fields):
    module = dictionaries.make(name, **{"d_in": 12, "n_latents": 6, "sources": 3, **fields})
    x = jax.random.normal(jax.random.key(1), (5, 12))
    return module, module.init(jax.random.key(0), x, jnp.zeros(6, bool)), x


def test_a_clt_whose_layers_write_only_to_themselves_is_a_transcoder_for_each():
    module, variables, x = made("clt", d_out=9, threshold_start=0.2)
    params = dict(variables["params"])
    for m in range(3):
        W = params[f"W_dec_{m}_FD"]
        params[f"W_dec_{m}_FD"] = W * (jnp.arange(W.shape[1]) < 3)
    params["b_dec_D"] = jnp.arange(9.0)
    codes = module.apply({"params": params}, x, method="encode")
    found = module.apply({"params": params}, codes, method="decode")
    assert 0 < np.count_nonzero(codes.val) < codes.val.size
    for m in range(3):
        pre = x[:, 4 * m : 4 * m + 4] @ params["W_enc_FD"][m::3].T
        own = jumprelu.jump(pre, jnp.full(2, 0.2), 1.0) @ params[f"W_dec_{m}_FD"][:, :3]
        np.testing.assert_allclose(
            found[:, 3 * m : 3 * m + 3], own + jnp.arange(9.0)[3 * m : 3 * m + 3], atol=1e-5
        )


def test_what_a_clt_writes_to_one_layer_is_that_part_of_the_whole():
    module, variables, x = made("clt", d_out=9, activation="relu", sparsity=0.0, skip=True)
    leaves = jax.tree.leaves(variables["params"])
    noise = [jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(jax.tree.structure(variables["params"]), noise)
    whole, codes = module.apply({"params": params}, x, method="reconstruct")
    for m in range(3):
        found = module.apply({"params": params}, x, codes, m, method="written_to")
        only = jnp.zeros(9).at[3 * m : 3 * m + 3].set(1.0)
        np.testing.assert_allclose(found, whole * only, rtol=1e-4, atol=1e-4)


def test_a_latent_of_a_clt_reads_its_layer_and_writes_to_no_earlier_one():
    module, variables, x = made("clt", d_out=9)
    moved = lambda d: module.apply(variables, x[:1].at[0, d].add(1.0), jnp.zeros(6, bool)).pre_BF
    still = module.apply(variables, x[:1], jnp.zeros(6, bool)).pre_BF
    reads = (
        np.stack([np.abs(moved(d) - still)[0] for d in range(12)], axis=1).reshape(6, 3, 4).sum(-1)
        > 0
    )
    writes = lambda i: module.apply(variables, Codes(jnp.eye(6)[i : i + 1]), method="decode")[0]
    for i in range(6):
        assert reads[i].tolist() == [m == i % 3 for m in range(3)]
        written = np.abs(np.asarray(writes(i)).reshape(3, 3)).sum(1) > 0
        assert written.tolist() == [m >= i % 3 for m in range(3)]


def test_the_penalty_of_a_clt_counts_all_that_a_latent_writes():
    """tanh(c f |d|) of the norm over all later layers together."""
    module, variables, x = made("clt", d_out=9, sparsity=0.5, tanh_scale=0.3)
    out = module.apply(variables, x, jnp.zeros(6, bool))
    norm = np.zeros(6)
    for i in range(6):
        norm[i] = np.linalg.norm(variables["params"][f"W_dec_{i % 3}_FD"][i // 3])
    np.testing.assert_allclose(
        out.penalty_B, 0.5 * np.tanh(0.3 * out.codes.val * norm).sum(1), rtol=1e-5
    )


def test_a_crosscoders_penalty_by_summed_norms_favours_one_source_and_by_the_whole_norm_does_not():
    def penalty(weight, row):
        module, variables, x = made("crosscoder", activation="relu", sparsity=1.0, weight_by=weight)
        W = jnp.tile(jnp.asarray(row, jnp.float32), (6, 1))
        params = {**variables["params"], "W_dec_FD": W}
        return float(module.apply({"params": params}, x, jnp.zeros(6, bool)).penalty_B.sum())

    one, three = np.eye(12)[0], np.eye(12)[[0, 4, 8]].sum(0) / 3**0.5
    np.testing.assert_allclose(penalty("joint", one), penalty("joint", three), rtol=1e-5)
    np.testing.assert_allclose(penalty("sum", three), 3**0.5 * penalty("sum", one), rtol=1e-5)


def test_batch_topk_of_a_crosscoder_ranks_by_what_a_latent_adds_to_all_sources():
    module, variables, x = made("crosscoder", k=1)
    alive = jnp.zeros(6, bool)
    apply = lambda params: module.apply(
        {**variables, "params": params}, x, alive, mutable=["stats"]
    )
    params = dict(variables["params"])
    before, _ = apply(params)
    favoured = int(np.argmin((before.codes.val > 0).sum(0)))
    params["W_dec_FD"] = params["W_dec_FD"].at[favoured].multiply(50.0)
    after, _ = apply(params)
    fired = lambda out: int((out.codes.val[:, favoured] > 0).sum())
    assert fired(after) == int((before.pre_BF[:, favoured] > 0).sum()) > fired(before)
    assert int((after.codes.val > 0).sum()) <= 5


@pytest.mark.parametrize("name", ["crosscoder", "clt", "transcoders"])
def test_sources_that_do_not_divide_a_width_are_refused(name):
    with pytest.raises(ValueError, match=r"sources=5\b.*d_in=12\b"):
        made(name, sources=5)
    with pytest.raises(ValueError, match=r"sources=3\b.*d_out=10\b"):
        made(name, d_out=10)
    with pytest.raises(ValueError, match="sources=0"):
        made(name, sources=0)


def test_latents_that_layers_cannot_share_evenly_are_refused():
    with pytest.raises(ValueError, match=r"n_latents=7\b.*sources=3\b"):
        made("clt", n_latents=7)


def test_no_collective_of_a_clts_step_moves_codes_between_devices():
    """Latents split four ways, tokens two: a shard's codes are 128 x 256."""
    config = planted_config(
        "clt", dictionary={"n_latents": 1024}, stream={"kind": "layers"}, batch_size=256
    )
    mesh = mesh_of(1, 2, 4)
    with jax.set_mesh(mesh):
        stream = open_stream(config)
        (program,) = experiment.programs(config, stream.d_in, stream.d_out)
        batch = place(stream.batches[0], mesh)
        state = experiment.init(program, batch, mesh)
        update = experiment.update(program, state, mesh)
        text = update.lower(state, program.hparams, batch).compile().as_text()
    kinds = r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\(", text)
    shapes = [shape for each in found for shape in re.findall(r"\w+\[([\d,]*)\]", each)]
    sizes = [math.prod(int(size) for size in shape.split(",") if size) for shape in shapes]
    assert max(sizes) <= 256 * 32 // 2  # a shard's gradient of W_enc, or its tokens' outputs
    assert max(sizes) < 128 * 256
