"""What choosing by the gradient changes, and what it does not."""

import jax
import jax.numpy as jnp
import pytest

from dictlearn import analyses, dictionaries
from dictlearn.analyses import Subject
from dictlearn.runs.trained import Trained
from tests.helpers import planted_config

TAP = "resid.1"


def gradient_sae(name, beta) -> Trained:
    module = dictionaries.make("gsae", d_in=12, n_latents=40, k=3, aux_k=8, beta=beta)
    rows = jnp.zeros((1, 12))
    return Trained(module, module.init(jax.random.key(0), rows, jnp.zeros(40, bool)), name=name)


def test_beta_zero_chooses_as_without_the_gradient_and_a_large_one_does_not(model, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(f'{{"text": "{n} thé café {n * n} x"}}' for n in range(100)))
    recipe = {"taps": TAP, "text": str(text), "sequence_length": 16, "held_out": 0.3}
    config = {**planted_config("gsae", batch_size=64), "model": model, "harvest": recipe}
    config["stream"] = {"name": "from_lm", "pool_rows": 128}
    given = [gradient_sae("topk", 0.0), gradient_sae("by_gradient", 1e3)]
    subject = Subject("hand", given=given, setup=config)
    found = analyses.run("gradient_choice", [subject]).values["rows"]
    value = {(row["dictionary"], row["choice"]): row["explained_variance"] for row in found}
    assert value["topk", "gradient"] == pytest.approx(value["topk", "plain"], abs=1e-5)
    assert value["by_gradient", "plain"] == pytest.approx(value["topk", "plain"], abs=1e-5)
    assert abs(value["by_gradient", "gradient"] - value["by_gradient", "plain"]) > 1e-3
