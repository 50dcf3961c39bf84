"""The identity of a model is decided by every file that its activations depend on."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from dictlearn import lm as language
from dictlearn.lm import source
from dictlearn.lm.weights import Safetensors
from tests.lm.toy import toy, write_gguf


@pytest.fixture
def folder(tmp_path):
    """A folder of two shards, which need not be a model to have an identity."""
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for tensor, file in names.items():
        save_file({tensor: np.zeros(3, np.float32)}, tmp_path / file)
    index = {"metadata": {}, "weight_map": names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path


def identity(folder):
    return source.of_folder(folder, Safetensors(folder))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("model-00001-of-00002.safetensors", "sha256"),
        ("model-00002-of-00002.safetensors", "sha256"),
        ("config.json", "config_sha256"),
        ("tokenizer.json", "tokenizer_sha256"),
    ],
)
def test_every_file_of_a_folder_counts(name, key, folder):
    before = identity(folder)
    assert identity(folder) == before
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"\x01" if name.startswith("model") else b"{ }")
    after = identity(folder)
    assert {key for key in before | after if before.get(key) != after.get(key)} == {key}
    (folder / name).write_bytes(content)
    assert identity(folder) == before


def test_a_file_that_the_index_does_not_name_does_not_count(folder):
    before = identity(folder)
    save_file({"c": np.zeros(3, np.float32)}, folder / "model-00003-of-00002.safetensors")
    assert identity(folder) == before


def test_a_gguf_file_and_the_tokenizer_beside_it_count(tmp_path):
    found = []
    for seed in (0, 1, 0):
        path = write_gguf(tmp_path / "toy.gguf", *toy(seed))
        found.append(language.identity("toy", path))
    assert found[0] == found[2] != found[1]
    (tmp_path / "tokenizer.json").write_text("{}")
    beside = language.identity("toy", path)
    assert beside.keys() - found[0].keys() == {"tokenizer_sha256"}
    assert beside | found[0] == beside


def test_a_model_that_is_loaded_again_uses_the_programs_of_the_first(tmp_path):
    path = write_gguf(tmp_path / "toy.gguf", *toy())
    one, again = (language.load("toy", path=path) for _ in range(2))
    program = jax.jit(lambda forward, *given: forward(*given)[0], static_argnums=0)
    for lm in (one, again):
        program(lm.forward, lm.params, np.zeros((1, 4), np.int32))
    assert program._cache_size() == 1
