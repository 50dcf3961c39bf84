"""Traffic is read from a program's text: loops as often as they run, groups in every form, one branch."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from dictlearn.plan import hlo
from dictlearn.plan.operations import operations
from tests.helpers import mesh_of

TEXT = """HloModule jit_update, is_scheduled=true

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %sum.1 = f32[8,4]{1,0} all-reduce(%x), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%x, %sum.1)
}

%condition (p: (s32[], f32[8,4])) -> pred[] {
  %p.1 = (s32[], f32[8,4]{1,0}) parameter(0)
  %five = s32[] constant(5)
  %turn = s32[] get-tuple-element(%p.1), index=0
  ROOT %less = pred[] compare(%turn, %five), direction=LT
}

%little (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4]{1,0} parameter(0)
  ROOT %moved = f32[8,4]{1,0} collective-permute(%q), source_target_pairs={{0,1}}
}

%much (r: f32[8,4]) -> f32[64,4] {
  %r = f32[8,4]{1,0} parameter(0)
  ROOT %whole = f32[64,4]{1,0} all-gather(%r), replica_groups=[1,8]<=[8], dimensions={0}
}

ENTRY %main (a: f32[8,4], b: bf16[2,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0:T(8,128)} parameter(0)
  %b = bf16[2,4]{1,0} parameter(1)
  %loop = (s32[], f32[8,4]{1,0}) while(%start), condition=%condition, body=%body
  %either = f32[64,4]{1,0} conditional(%which, %a, %a), branch_computations={%little, %much}
  %pair = (bf16[2,4]{1,0}, bf16[4]{0}) all-reduce(%b, %c), replica_groups=mesh['x'=4,'y'=2] {'y'}
  %begun = (bf16[2,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%b), replica_groups=[1,8]<=[8]
  %ended = bf16[16,4]{1,0} all-gather-done(%begun)
  ROOT %end = f32[8,4]{1,0} reduce-scatter(%either), replica_groups={}, dimensions={0}
}
"""


def test_each_collective_counts_as_often_as_it_runs_and_by_the_size_of_its_group():
    found = {(one.kind, one.shape): one for one in hlo.collectives(hlo.parse(TEXT), 8)}
    assert {key: (one.devices, one.times, one.sent) for key, one in found.items()} == {
        ("all-reduce", "f32[8,4]"): (4, 5, 5 * 128 * 2 * 3 / 4),
        ("all-gather", "f32[64,4]"): (8, 1, 1024 * 7 / 8),
        ("all-reduce", "bf16[2,4], bf16[4]"): (2, 1, 24 * 2 * 1 / 2),
        ("all-gather", "bf16[16,4]"): (8, 1, 128 * 7 / 8),
        ("reduce-scatter", "f32[8,4]"): (8, 1, 128 * 7),
    }
    assert hlo.largest(hlo.parse(TEXT)) == 64 * 4


def test_a_loop_that_is_longer_makes_more_traffic():
    ratio = hlo.loop_ratio(hlo.parse(TEXT))
    body, once = 128 + 128, 1024 + 128 + 24 + 16 + 160 + 16 + 128 + 128 + 1024
    assert 1 < ratio < 5
    assert hlo.loop_ratio(hlo.parse(TEXT.replace("constant(5)", "constant(1)"))) == 1
    assert ratio == pytest.approx(1 + 4 * body / (body + once), rel=0.2)


def counted(function, *arrays, platform="cpu", n_devices=1):
    return operations(jax.make_jaxpr(function)(*arrays), platform, n_devices)


def test_products_count_twice_their_sums_and_once_for_every_turn_of_a_loop():
    x, W = jnp.ones((8, 4)), jnp.ones((4, 4))
    assert counted(lambda x, W: x @ W, x, W) == 2 * 8 * 4 * 4
    assert counted(jax.vmap(lambda x, W: x @ W, in_axes=(0, None)), x[None], W) == 256
    turns = lambda x, W: lax.fori_loop(0, 6, lambda _, x: x @ W, x)
    assert counted(jax.jit(turns), x, W) == 6 * 256
    gradient = jax.grad(lambda W: jnp.sum((x @ W) ** 2))
    assert counted(gradient, W) == 2 * 256


def test_of_branches_the_dearest_counts_and_of_platforms_the_one_that_is_meant():
    x, none, twice = jnp.ones((4, 4)), lambda x: x, lambda x: x @ x @ x
    assert counted(lambda x: lax.cond(x[0, 0] > 0, none, twice, x), x) == 256
    choose = lambda x: lax.platform_dependent(x, tpu=twice, default=lambda x: x @ x)
    assert counted(choose, x, platform="tpu") == 256
    assert counted(choose, x, platform="cpu") == 128


def test_what_is_written_for_a_shard_counts_for_every_device():
    mesh = mesh_of(1, 2, 4)
    with jax.set_mesh(mesh):
        split = jax.shard_map(
            lambda x: x @ x.T, in_specs=P("data", None), out_specs=P("data", None)
        )
        assert counted(split, jnp.ones((8, 4)), n_devices=8) == 8 * 2 * 4 * 4 * 4
