"""A new format is one new file: dropped into the folder, it passes conformance untouched."""

import pytest

from tests.dropin import drop_in

FORMAT = '''
"""Plain arrays and a list of fields (a test's format): it holds ReLU autoencoders, and refuses the rest."""

import json
import zipfile

import numpy as np

from dictlearn import dictionaries
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained

SUFFIX = ".plain"
LEAVES = {f"params/{leaf}" for leaf in ("W_enc_FD", "b_enc_F", "W_dec_FD", "b_dec_D")}
FIELDS = ("name", "hparams", "metrics")


def recognises(path):
    return path.is_file() and zipfile.is_zipfile(path) and "about.npy" in zipfile.ZipFile(path).namelist()


def load(path):
    try:
        with np.load(path, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            params = {name: found[name] for name in found.files if name != "about"}
    except Exception as error:
        raise ValueError(str(error)) from error
    module = dictionaries.make(**about.pop("dictionary"))
    sites = tuple(map(Site.of, about.pop("sites")))
    return Trained(module, {"params": params}, Norm(), sites, **about)


def save(trained, path):
    made = dictionaries.describe(trained.module)
    if made["name"] != "relu" or trained.norm != Norm():
        raise ValueError(f"it holds relu on raw activations, not {made['name']} under {trained.norm}.")
    about = {name: getattr(trained, name) for name in FIELDS}
    about["sites"] = [site._asdict() for site in trained.sites]
    about["dictionary"] = made
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **trained.variables["params"])
'''

SUITE = "tests/interop/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    right = '**trained.variables["params"])'
    assert right in FORMAT
    wrong = '**{k: v for k, v in trained.variables["params"].items() if k != "b_enc_F"})'
    forgetful = FORMAT.replace(right, wrong).replace("about.npy", "forgetful.npy")
    files = {"interop/dropped_in": FORMAT, "interop/forgetful": forgetful}
    chosen = "dropped_in or forgetful"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_file_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert passed, log
    assert not failed, log


def test_a_format_that_drops_a_leaf_is_caught(found):
    _, failed, log = found["forgetful"]
    assert "test_a_dictionary_comes_back_to_the_bit_or_is_refused" in failed, log
