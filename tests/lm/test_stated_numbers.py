"""Every number that a configuration states is followed, refused or told, by what transformers computes."""

import json

import numpy as np
import pytest

from dictlearn.lm import families

from . import hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BASE = transformers.PretrainedConfig()


def numbers(family):
    """Key -> another value: of each number that the configuration class itself has."""
    kind = transformers.CONFIG_MAPPING[family]
    usual = hf.small(family).config.to_dict()
    own = {
        key: usual[key] for key in kind().to_dict() if key in usual and key not in BASE.to_dict()
    }
    plain = {key: value for key, value in own.items() if type(value) in (int, float)}
    return {
        key: value * 2 + 0.125 if type(value) is float else value + 1
        for key, value in plain.items()
    }


def computed(model):
    with torch.no_grad():
        return model(torch.from_numpy(hf.TOKENS_BT)).logits.numpy()


def stated(model):
    """The spec of a model's configuration, as it is written to a file."""
    return families.spec_from_config(json.loads(model.config.to_json_string(use_diff=False)))


@pytest.mark.parametrize("family", families.names())
def test_a_number_that_changes_what_is_computed_changes_the_spec_or_is_named(family, caplog):
    caplog.set_level("WARNING", "dictlearn")
    usual = hf.small(family)
    spec, logits_BTV = stated(usual), computed(usual)
    assert [one for one in caplog.records if one.name == "dictlearn"] == []
    followed = 0
    for key, value in numbers(family).items():
        try:
            model = hf.small(family, **{key: value})
            model.load_state_dict(usual.state_dict())
            same = np.array_equal(computed(model), logits_BTV)
        except Exception:
            continue  # transformers has no such model, or its tensors have other shapes
        caplog.clear()
        try:
            told = stated(model) != spec or key in caplog.text
        except ValueError as error:
            told = key in str(error)
        assert same or told, key
        followed += not same
    assert followed >= 1
