"""Conformance of every format with every dictionary: it comes back to the bit, or is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import dictionaries, interop
from dictlearn.interop import _layout
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained
from tests.helpers import SIZES

D, F = 16, 32
FORMATS, NAMES = interop.names(), dictionaries.names()
formats = pytest.mark.parametrize("format", FORMATS)
PRODUCTS = [(name, other) for name in NAMES for other in dictionaries.activations(name)[1:]]
TRANSCODES = [name for name in NAMES if dictionaries.variant(name).transcodes]


@functools.cache
def drawn(name, d_in=D, **fields):
    """A module with random leaves: no two of them alike, none as it starts."""
    known = dictionaries.fields(name, fields.get("activation"))
    sizes = {key: value for key, value in SIZES.items() if key in known}
    module = dictionaries.make(name, d_in=d_in, n_latents=F, **sizes, **fields)
    x = jax.ShapeDtypeStruct((1, d_in), jnp.float32)
    shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, method="encode"), x)
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.integers(1, 9, leaf.shape) / 8, leaf.dtype)
    return module, jax.tree.map(draw, shapes)


def trained(name, norm=None, d_in=D, **fields):
    module, variables = drawn(name, d_in, **fields)
    site = Site({"name": "toy", "sha256": "7e"}, ("resid.0",), ("resid.1",), {"sequence_length": 8})
    told = {"name": f"{name}_0", "hparams": {"seed": 3}, "metrics": {"l0": 1 / 3}}
    return Trained(module, variables, norm or Norm(), (site,), **told)


def same(a: Trained, b: Trained, exact: bool = True):
    assert dataclasses.replace(a, variables={}) == dataclasses.replace(b, variables={})
    assert hash(a.module) == hash(b.module)
    before, after = _layout.flat(a.variables), _layout.flat(b.variables)
    assert before.keys() == after.keys()
    for name, leaf in before.items():
        assert leaf.dtype == after[name].dtype, name
        near = 0 if exact or "log_threshold" not in name else 1e-6
        np.testing.assert_allclose(leaf, after[name], rtol=near, atol=near, err_msg=name)


def held(one: Trained, format, path) -> bool:
    """Whether a format holds a dictionary: it comes back to the bit. Otherwise it is refused, with all leaves
    named that the format does not know, or the variant, and nothing is written."""
    leaves, known = _layout.flat(one.variables).keys(), interop.format_of(format).LEAVES
    beyond = leaves - (leaves if known is None else known)
    refusal = None
    try:
        interop.save(one, path, format)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert known is not None
        assert (", ".join(sorted(beyond)) or dictionaries.describe(one.module)["name"]) in refusal
        assert not list(path.parent.iterdir())
        return False
    assert not beyond
    assert interop.recognised(path) == format
    # Other libraries store thresholds; ours are logarithms.
    same(one, interop.load(path), exact=known is None)
    return True


def parts(path):
    """The files that a dictionary is read from."""
    every = path.rglob("*") if path.is_dir() else [path]
    return sorted(each for each in every if each.is_file() and each.suffix != ".py")


def file(tmp_path, format):
    return tmp_path / f"one{interop.format_of(format).SUFFIX}"


@formats
@pytest.mark.parametrize("name", NAMES)
def test_a_dictionary_comes_back_to_the_bit_or_is_refused(name, format, tmp_path):
    held(trained(name), format, file(tmp_path, format))


@formats
@pytest.mark.parametrize(("name", "activation"), PRODUCTS)
def test_every_activation_of_a_structure_comes_back_or_is_refused(
    name, activation, format, tmp_path
):
    held(trained(name, activation=activation), format, file(tmp_path, format))


@formats
@pytest.mark.parametrize("name", TRANSCODES)
def test_a_skip_transcoder_comes_back_to_the_bit_or_is_refused(name, format, tmp_path):
    one = trained(name, d_out=D // 2, skip=True)
    assert any(leaf.startswith("W_skip") for leaf in one.variables["params"])
    held(one, format, file(tmp_path, format))


@formats
@pytest.mark.parametrize(
    "norm",
    [
        *(Norm("unit_mean_sq", 1 / 3, 3.0), Norm("token_unit"), Norm("unit_mean_sq", (1.0, 1 / 7))),
        Norm("whiten", mean_D=np.arange(D) / 7, matrix_DD=np.eye(D) + 1 / 3),
        Norm("standardise", mean_D=np.arange(D) / 7, matrix_DD=np.diag(np.arange(1, D + 1) / 3)),
    ],
)
def test_the_normalisation_comes_back_to_the_bit_or_is_refused(norm, format, tmp_path):
    held(trained("relu", norm=norm), format, file(tmp_path, format))


def written(format, path) -> Trained:
    """A dictionary on raw activations that the format holds, in a folder that is made."""
    raw = {"subtract_b_dec": False}
    kinds = [trained("relu"), trained("topk"), trained("jumprelu", **raw), trained("relu", **raw)]
    path.mkdir()
    for one in [*kinds, trained("clt", d_out=D), without_b_dec(trained("relu"))]:
        if held(one, format, file(path, format)):
            return one
    pytest.fail("no plain dictionary can be written in this format")


def without_b_dec(one: Trained) -> Trained:
    params = one.variables["params"]
    params = {**params, "b_dec_D": jnp.zeros_like(params["b_dec_D"])}
    return dataclasses.replace(one, variables={**one.variables, "params": params})


@pytest.fixture
def plain(format, tmp_path):
    """A dictionary that the format holds."""
    return written(format, tmp_path / "plain")


@formats
def test_what_was_written_before_is_kept_if_writing_fails(format, plain, tmp_path, monkeypatch):
    path = file(tmp_path, format)
    interop.save(plain, path, format)
    before, writer = sorted(tmp_path.iterdir()), interop.format_of(format)

    def fails(trained, path):
        path.write_bytes(b"half")
        raise ValueError("the disk is full")

    monkeypatch.setattr(writer, "save", fails)
    with pytest.raises(ValueError, match="the disk is full"):
        interop.save(plain, path, format)
    assert sorted(tmp_path.iterdir()) == before
    same(plain, interop.load(path), exact=writer.LEAVES is None)


@formats
def test_a_cut_file_is_refused(format, plain, tmp_path):
    path = file(tmp_path, format)
    interop.save(plain, path, format)
    for one in parts(path):
        whole = one.read_bytes()
        for size in (0, 9, len(whole) // 2, len(whole) - 2):
            one.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=path.name):
                interop.load(path)
        one.write_bytes(whole)


def test_what_is_of_no_format_lists_the_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("W_enc")
    with pytest.raises(ValueError, match=r"notes\.txt.*" + ", ".join(FORMATS)):
        interop.load(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match="none"):
        interop.load(tmp_path / "none")
    with pytest.raises(ValueError, match="'pickle'.*" + ", ".join(FORMATS)):
        interop.save(trained("relu"), tmp_path / "x", "pickle")
