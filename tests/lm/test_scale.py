"""A 70B model compiles for a pod and fits its chips: asked of the TPU compiler, without a TPU."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from dictlearn.plan import model

if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu is not installed: pip install dictlearn-jax[tpu]", allow_module_level=True)

BATCH, LENGTH, MODEL, DEVICES = 8, 1024, 8, 16


def command(*arguments):
    """`python -m dictlearn.plan.model` in a process of its own: libtpu stays out of the tests'. The least
    optimisation takes half of the time and changes the sizes by a few percent."""
    line = [sys.executable, "-m", "dictlearn.plan.model", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_"))}
    environment["JAX_OPTIMIZATION_LEVEL"] = "O0"
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env=environment)


def test_llama_3_70b_compiles_for_a_pod_and_fits_its_chips():
    done = command(
        *("--topology", "v5p:2x2x4", "--model", MODEL, "--batch", BATCH, "--length", LENGTH)
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, spec = json.loads(done.stdout), model.LLAMA_3_70B
    assert found["devices"] == DEVICES
    assert found["total"] < found["hbm"] == 95 * 2**30

    attention = 2 * 8192 * 8192 + 2 * 8192 * 1024
    weights = spec.n_layers * (attention + 3 * 8192 * 28672)
    # What is split eight ways, in bfloat16; norms and tokens are whole, the unembedding is unread.
    split = 2 * (weights + 128256 * 8192) / MODEL
    assert split < found["arguments"] < 1.01 * split
    assert found["outputs"] == 2 * BATCH * LENGTH * 8192 / (DEVICES / MODEL)
    # Two operations a weight and token, and attention's own, below a tenth of that.
    matmuls = 2 * weights * BATCH * LENGTH / DEVICES
    assert matmuls < found["flops"] < 1.1 * matmuls
    # Activations of a layer or two, and never the eighty.
    assert found["temporaries"] < 16 * found["outputs"]


def test_what_does_not_fit_is_refused_with_the_compilers_word():
    done = command(
        *("--topology", "v5e:4x8", "--model", 1),
        *("--tap", "resid.1", "--batch", 8192, "--length", 4096),
    )
    assert done.returncode != 0
    assert "batch=8192 x length=4096 does not fit v5e:4x8 with model=1; take fewer" in done.stderr
    assert "exceeds available HBM" in done.stderr


def test_a_models_own_config_is_planned_for(tmp_path):
    config = {
        **{"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 1},
        **{"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 512},
        **{"vocab_size": 1024, "max_position_embeddings": 512, "rope_theta": 1e4},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = ("--topology", "v5e:2x2", "--model", 2, "--batch", 4, "--length", 128)
    done = command(tmp_path / "config.json", *line, "--dtype", "float32")
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    weights = 4 * 256 * 256 + 3 * 256 * 512 + 1024 * 256
    assert 4 * weights / 2 < found["arguments"] < 1.02 * 4 * weights / 2
    assert found["outputs"] == 4 * 2 * 128 * 256


def test_a_topology_or_tap_that_is_none_is_refused():
    shape = {"batch": 8, "length": 16}
    with pytest.raises(ValueError, match=r"'v9:2x2'.*v4, v5e, v5p, v6e"):
        model.plan(model.LLAMA_3_70B, "v9:2x2", tap="embed", **shape)
    with pytest.raises(ValueError, match=r"'resid\.80'.*embed, attn_in\.0"):
        model.plan(model.LLAMA_3_70B, "v5e:4x8", tap="resid.80", **shape)
    done = command("--model", 3)
    assert "x model=3 is 15 devices, but there are 16" in done.stderr
