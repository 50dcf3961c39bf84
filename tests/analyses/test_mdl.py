"""The width of the fewest bits, of made-up measurements."""

import pytest

from dictlearn import analyses
from dictlearn.analyses import Subject


def subject(bits, values=(8, 16)) -> Subject:
    """Two seeds of two ks for each {width: bits at an explained variance of 0.8}; k adds 0.1 and 20 bits."""
    metrics = {}
    for n, at in bits.items():
        for place, k in enumerate(values):
            for seed, off in enumerate((-1.0, 1.0)):
                hparams = {"dictionary": {"n_latents": n, "k": k}, "seed": seed}
                length = at + 20 * place - 10 + off
                metrics[f"topk_n{n}_{k}_{seed}"] = {
                    **{
                        "label": "topk",
                        "hparams": hparams,
                        "explained_variance": 0.75 + 0.1 * place,
                    },
                    **{"description_length": length, "l0": float(k)},
                    **{"description_length_support": 0.5 * length},
                    "description_length_values": 0.5 * length,
                }
    found = Subject("hand", given=())
    found.__dict__["metrics"] = metrics
    return found


def run(bits, **settings):
    return analyses.run("mdl", [subject(bits)], **settings).values


def test_the_width_of_the_fewest_bits_is_found_and_said_to_be_inside_or_not():
    found = run({64: 90.0, 128: 70.0, 256: 80.0}, explained_variance=0.8)
    assert [row["description_length"] for row in found["rows"]] == pytest.approx([90, 70, 80])
    (best,) = found["best"]
    assert (best["n_latents"], best["interior"]) == (128, True)
    (best,) = run({64: 90.0, 128: 70.0, 256: 60.0}, explained_variance=0.8)["best"]
    assert (best["n_latents"], best["interior"]) == (256, False)


def test_bits_are_read_where_most_widths_reach_and_never_beyond():
    assert run({64: 90.0, 128: 70.0})["explained_variance"] == pytest.approx(0.85)
    found = run({64: 90.0, 128: 70.0}, explained_variance=0.95)
    assert [row["description_length"] for row in found["rows"]] == [None, None]
    assert found["best"][0]["n_latents"] is None


def test_a_run_without_the_meter_is_refused():
    bare = subject({64: 90.0})
    for record in bare.metrics.values():
        del record["description_length"]
    with pytest.raises(ValueError, match=r"config\.meters"):
        analyses.run("mdl", [bare])
