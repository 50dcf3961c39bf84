"""Patterns of taps name what they say, in order and once, or are refused."""

import pytest

from dictlearn.lm import check_taps, expand_taps, tap_names

from .toy import SPEC


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("resid.1", ["resid.1"]),
        ("resid.{2,0}", ["resid.0", "resid.2"]),
        ("resid.*", ["resid.0", "resid.1", "resid.2"]),
        ("mlp_{in,out}.{0,2}", ["mlp_in.0", "mlp_out.0", "mlp_in.2", "mlp_out.2"]),
        (["final", "resid.*", "resid.1"], ["final", "resid.0", "resid.1", "resid.2"]),
        (["resid.2", "resid.*"], ["resid.2", "resid.0", "resid.1"]),
        ("resid_*.1", ["resid_mid.1"]),
        ("*", ["embed", "final"]),
        (["embed", "*.*", "final"], tap_names(SPEC)),
        ([], []),
    ],
)
def test_patterns_name_taps_in_order_and_once(patterns, expected):
    assert expand_taps(SPEC, patterns) == expected


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        ("resid.3", r"'resid\.3'"),
        ("resid.{1,7}", r"'resid\.7'"),
        ("resid.1,resid.2", r"'resid\.1,resid\.2'"),
        ("re(sid.1", r"'re\(sid\.1'"),
        (["resid.1", "nowhere.*"], r"'nowhere\.\*'"),
        ("resid.{1", r"'resid\.\{1'"),
    ],
)
def test_a_pattern_or_choice_that_names_nothing_lists_the_known(patterns, named):
    known = rf"Unknown tap {named}; known: embed, attn_in\.0\.\.2, .* resid\.0\.\.2, final\."
    with pytest.raises(ValueError, match=known):
        expand_taps(SPEC, patterns)


def test_an_unknown_tap_lists_the_known():
    known = r"Unknown tap 'resid\.3'; known: embed, attn_in\.0\.\.2, .* resid\.0\.\.2, final\."
    with pytest.raises(ValueError, match=known):
        check_taps(SPEC, ["resid.2", "resid.3"])
    assert check_taps(SPEC, tap_names(SPEC)) is None
