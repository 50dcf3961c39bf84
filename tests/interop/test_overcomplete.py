"""Files of overcomplete, made from the layout of its state dicts, against the equations in NumPy."""

import numpy as np
import pytest
import torch

from dictlearn import dense, interop
from tests.interop.test_conformance import trained, without_b_dec

D, F, K = 8, 12, 3
RNG = np.random.default_rng(0)
W, B, X = (RNG.normal(size=shape).astype("f4") for shape in ((F, D), (F,), (16, D)))
RAW = RNG.normal(size=(F, D)).astype("f4")
ATOMS = RAW / np.linalg.norm(RAW, axis=1, keepdims=True)
LINEAR = {"encoder.final_block.0.weight": W, "encoder.final_block.0.bias": B}
PLAIN = LINEAR | {"dictionary._weights": ATOMS, "dictionary.multiplier": np.float32(0.25)}
PRE = np.maximum(X @ W.T + B, 0)
TOP = np.where(np.sort(PRE, axis=1)[:, [-K]] <= PRE, PRE, 0)
LOGS = RNG.normal(size=F).astype("f4")
MIX = RNG.random((F, 5)).astype("f4")
ARCHETYPAL = LINEAR | {
    "dictionary.W": MIX / MIX.sum(1, keepdims=True),
    "dictionary.C": RAW[:5],
    "dictionary.Relax": 0.1 * ATOMS,
    "dictionary.multiplier": np.float32(0),
}
FAR = 0.1 * ATOMS + ARCHETYPAL["dictionary.W"] @ RAW[:5]


def saved(path, arrays, **more):
    torch.save({key: torch.tensor(array) for key, array in arrays.items()} | more, path)
    return path


def without(arrays, *keys):
    return {key: array for key, array in arrays.items() if key not in keys}


@pytest.mark.parametrize(
    ("arrays", "more", "codes", "atoms"),
    [
        (PLAIN, {"top_k": K}, TOP, ATOMS * np.exp(0.25)),
        (PLAIN, {"top_k": None}, PRE, ATOMS * np.exp(0.25)),
        (PLAIN | {"thresholds": LOGS}, {}, PRE * (np.exp(LOGS) < PRE), ATOMS * np.exp(0.25)),
        (ARCHETYPAL, {"top_k": K}, TOP, FAR),
    ],
)
def test_a_file_is_read_as_its_equations_say(arrays, more, codes, atoms, tmp_path):
    found = interop.load(saved(tmp_path / "sae.pth", arrays, **more))
    np.testing.assert_allclose(dense(found.encode(X), F), codes, atol=1e-5)
    np.testing.assert_allclose(found.reconstruct(X), codes @ atoms, atol=1e-5)


def test_an_untied_encoder_without_a_bias(tmp_path):
    arrays = {"encoder.weight": W} | without(PLAIN, *LINEAR)
    found = interop.load(saved(tmp_path / "sae.pt", arrays, top_k=None))
    np.testing.assert_allclose(dense(found.encode(X), F), np.maximum(X @ W.T, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "more", "said"),
    [
        (PLAIN, {}, "top_k"),
        (PLAIN, {"top_k": 0}, "top_k=0"),
        (PLAIN | {"dictionary._weights": RAW}, {"top_k": K}, "dictionary._weights"),
        (PLAIN | {"dictionary.multiplier": np.float32(999)}, {"top_k": K}, "multiplier"),
        (ARCHETYPAL | {"dictionary.W": MIX}, {"top_k": K}, "dictionary.W"),
        (PLAIN | {"Q": LOGS}, {"top_k": K}, "Q"),
        (PLAIN | {"encoder.final_block.1.weight": LOGS}, {"top_k": K}, "final_block.1.weight"),
    ],
)
def test_what_the_file_does_not_say_is_not_guessed(arrays, more, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        interop.load(saved(tmp_path / "sae.pt", arrays, **more))


def test_what_is_written_is_what_the_library_builds(tmp_path):
    one = without_b_dec(trained("batch_topk"))
    interop.save(one, tmp_path / "one.pt", "overcomplete")
    state = torch.load(tmp_path / "one.pt", weights_only=True)
    assert state.keys() == PLAIN.keys() | {"thresholds"}
    assert state["thresholds"].shape == (32,)
    assert state["dictionary.multiplier"] == 0
