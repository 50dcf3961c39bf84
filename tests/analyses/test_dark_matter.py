"""The parts of an error whose construction is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import analyses, streams
from dictlearn.analyses import Subject
from dictlearn.analyses._linear import Explained, Moments
from dictlearn.runs.places import read_config
from dictlearn.runs.trained import Trained
from dictlearn.streams.synthetic import draw, plant
from dictlearn.types import Codes, Dictionary
from tests.analyses.test_settings import ATOMS, dictionary
from tests.helpers import planted_config

D, N_TOKENS, SHARE = 32, 16_384, 0.1
STREAM = streams.make("synthetic", kind="p1", batch_size=512, seed=0)
LINEAR = 0.3 * np.random.default_rng(1).normal(size=(D, D)).astype("f") / np.sqrt(D)


class Built(Dictionary):
    """yhat = x - x A - noise; the noise is a rapidly varying function of x, and so as good as independent."""

    def reconstruct(self, x_BD):
        map_DD, mixed_DD, size = (self.get_variable("params", name) for name in ("A", "R", "size"))
        noise_BD = size * jnp.sin(1e3 * x_BD @ mixed_DD)
        codes = Codes(jnp.ones((len(x_BD), 1)), jnp.zeros((len(x_BD), 1), jnp.int32))
        return x_BD - x_BD @ map_DD - noise_BD, codes


def built(name, linear, share, seed=0, width=D, variance=None) -> Trained:
    """A dictionary with this linear error and noise of this share of the variance."""
    variance = rows().var(0).sum() if variance is None else variance
    mixed = np.random.default_rng(seed).normal(size=(width, width)).astype("f")
    size = np.float32(np.sqrt(2 * share * variance / width))
    params = {"A": jnp.asarray(linear), "R": jnp.asarray(mixed), "size": size}
    return Trained(Built(width, 1), {"params": params}, name=name)


def rows(n=8):
    return np.concatenate([STREAM.batch(t).x_BD for t in range(n)])


def subject(*given, seed=0) -> Subject:
    return Subject("hand", given=given, setup=planted_config(batch_size=512, seed=seed))


def measured(*given, n_tokens=N_TOKENS, **settings):
    found = analyses.run("dark_matter", [subject(*given)], n_tokens=n_tokens, **settings).values
    return {row["dictionary"]: row for row in found["rows"]}, found["norms"]


def test_the_nonlinear_share_is_the_noise_that_was_added_and_no_more():
    """T-L6 of the specification."""
    found = measured(built("a", LINEAR, SHARE))[0]["a"]
    assert found["fvu_nonlinear"] == pytest.approx(SHARE, abs=0.005)
    x_BD = rows()
    linear = ((x_BD @ LINEAR) ** 2).sum() / ((x_BD - x_BD.mean(0)) ** 2).sum()
    assert found["fvu_linear"] == pytest.approx(linear, rel=0.05)
    assert found["fvu"] == pytest.approx(found["fvu_linear"] + found["fvu_nonlinear"])
    assert found["error_r2_low"] < found["error_r2"] < found["error_r2_high"]
    stiff = measured(built("a", LINEAR, SHARE), ridge=1.0)[0]["a"]
    assert stiff["fvu_nonlinear"] > SHARE + 0.005, (
        "a ridge that shrinks A counts its rest as nonlinear"
    )


def test_an_error_that_is_linear_is_predicted_and_noise_is_not():
    found, _ = measured(built("linear", LINEAR, 0.0), built("noise", 0 * LINEAR, SHARE))
    assert found["linear"]["error_r2"] == pytest.approx(1, abs=1e-6)
    assert found["linear"]["fvu_nonlinear"] < 1e-6
    assert -0.01 < found["noise"]["error_r2"] <= 0
    assert abs(found["noise"]["norm_r2"]) < 0.02


def test_a_map_explains_noise_on_the_tokens_that_it_was_fitted_to():
    """Why half of the tokens are not fitted to."""
    random = np.random.default_rng(0)
    shares = []
    first, other = random.normal(size=(2, 2, 320, D))
    (own := Moments()).add(*first)
    map_DD = own.through_zero(1e-9)
    for x_BD, t_BD in (first, other):
        explained = Explained()
        explained.add(t_BD, t_BD - x_BD @ map_DD)
        shares.append(explained.values("r2")["r2"])
    assert shares[0] == pytest.approx(D / 320, abs=0.03)
    assert shares[1] < 0


def test_half_of_the_planted_features_leave_a_linear_error_until_noise_is_added():
    """64 dimensions, 256 features: 0.61 of the error is linear, and 0.37 under noise of 0.31 of the variance.
    The noise is in the nonlinear part."""
    planted = plant("p1", seed=0, d_in=64, n_features=256, sparsity=12, noise=0.0)
    x_BD, codes_BN = draw(planted, 20_000, 0)
    error_BD = x_BD - codes_BN[:, :128] @ planted.atoms_ND[:128]
    variance = x_BD.var(0).sum()
    noise = np.random.default_rng(0).normal(size=x_BD.shape) * np.sqrt(0.31 * variance / 64)
    found = []
    for e_BD in (error_BD, error_BD + noise):
        (own := Moments()).add(x_BD[::2], e_BD[::2])
        rest_BD = e_BD[1::2] - x_BD[1::2] @ own.through_zero(1e-9)
        (explained := Explained()).add(e_BD[1::2], rest_BD)
        found.append((explained.values("r2")["r2"], (rest_BD**2).sum(1).mean() / variance))
    assert [r2 for r2, _ in found] == pytest.approx([0.61, 0.37], abs=0.04)
    assert found[1][1] - found[0][1] == pytest.approx(0.31, rel=0.05)


def test_norms_of_one_error_give_those_of_its_multiple_and_not_of_another():
    given = (
        built("a", 0 * LINEAR, 0.1),
        built("b", 0 * LINEAR, 0.4),
        built("c", 0 * LINEAR, 0.1, 7),
    )
    r2 = {(pair["of"], pair["from"]): pair["r2"] for pair in measured(*given)[1]}
    assert r2["b", "a"] == pytest.approx(1, abs=1e-3)
    assert r2["c", "a"] < 0.05


def test_a_pursuit_is_measured_beside_the_encoder_that_it_replaces():
    found, _ = measured(dictionary("tied", ATOMS), n_tokens=2048, pursuits=("gradient",))
    assert set(found) == {"tied", "tied+gradient"}
    assert found["tied+gradient"]["fvu"] < 0.5 * found["tied"]["fvu"]
    assert found["tied+gradient"]["l0"] <= found["tied"]["l0"]


def test_a_linear_error_costs_the_model_all_that_the_error_costs(spoken):
    config = read_config(spoken)
    one = built("a", 0.3 * np.eye(12, dtype="f"), 0.0, width=12, variance=1.0)
    settings = {"earlier": "resid.0", "n_tokens": 640}
    found = analyses.run("dark_matter", [Subject("hand", given=[one], setup=config)], **settings)
    (row,) = found.values["rows"]
    score = {form: values["ce_score"] for form, values in row["loss"].items()}
    assert score["with_linear"] == pytest.approx(1, abs=1e-3)
    assert score["with_nonlinear"] == pytest.approx(score["reconstruction"], abs=1e-3)
    assert score["reconstruction"] < 0.99
    assert set(row["earlier"]) == {"resid.0"}
    fewer = analyses.run(
        "dark_matter", [Subject("hand", given=[one], setup=config)], skip=8, **settings
    )
    assert (
        fewer.values["rows"][0]["loss"]["reconstruction"]["ce_tokens"]
        < (row["loss"]["reconstruction"]["ce_tokens"])
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_tokens": 1024, "ridge": 0.0}, "ridge=0.0"),
        ({"n_tokens": 512}, "measured on 0 blocks"),
        ({"skip": 3}, "skip=3"),
        ({"earlier": ("resid.0",)}, "resid.0"),
        ({"pursuits": ("guess",), "n_tokens": 2048}, "guess"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        measured(dictionary("tied", ATOMS), **settings)


def test_runs_of_other_data_are_refused():
    one = dictionary("tied", ATOMS)
    with pytest.raises(ValueError, match="other data"):
        analyses.run("dark_matter", [subject(one), subject(one, seed=1)])
