"""Indirect objects: whether latents carry the attributes of a task, beside dictionaries that are told them.

    "When Mary and John went to the store, John gave a drink to"     attributes: io, s, order
    m               the mean of logit(io) - logit(s)
    sufficiency     m with reconstructions      } at one token of each prompt, as a share of the way from the
    necessity       m without what they explain } mean activation (0, and 1) to the activation itself (1, and 0)
    edit            the share of prompts where k latents are exchanged for those of a prompt that differs in one
                    attribute, and the model says the name that it says with that prompt's activation
    magnitude       the share of the reconstruction that such an edit takes out
    beside          how far the edit misses along the other attributes, as a share of the whole change
    interpretable   the share of latents that fire whose F1 for a value, or a union of values, is `f1` or more

Latents are exchanged as they bring the activation nearest (edit), or by their F1 for the old and the new value
(`guided_edit`). The ceiling is a dictionary with a latent for each value of each attribute, by conditional
means or by least squares (analyses/_ioi.py).

Source: Makelov, Lange and Nanda 2024 (arXiv:2405.08366); amakelov/sae 1d3ab32.
Differs: one site, where the dictionary reads, not all sites of the circuit. Everything is fitted to the prompts
on which it is measured.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from dictlearn import tasks as room
from dictlearn.analyses import _asked, _documents, _ioi, _names
from dictlearn.analyses._asked import MEAN_CODES, MSE_CODES
from dictlearn.analyses._interchange import Coded
from dictlearn.analyses._ioi import Basis, Head
from dictlearn.analyses._names import Prompts
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Key
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.runs.trained import Trained

NEEDS = ("model", "origin")
ATTRIBUTES = ("io", "s", _names.ORDER)
_MEASURED = ("edit", "magnitude", "beside")
_ALONE = (MEAN_CODES, MSE_CODES, LLM, PCA)


class How(NamedTuple):
    """What is measured. The fields are settings of the analysis."""

    attributes: tuple[str, ...]
    ks: tuple[int, ...]
    f1: float

    @property
    def keys(self) -> list[str]:
        """The keys of the values."""
        ways = (*_MEASURED, *(f"guided_{one}" for one in _MEASURED))
        edits = [f"{way}_{one}_{k}" for way in ways for one in self.attributes for k in self.ks]
        return ["sufficiency", "necessity", *edits, "interpretable"]

    def check(self) -> None:
        """Raises ValueError for settings out of bounds."""
        if not set(self.attributes) <= {*ATTRIBUTES} or not self.attributes:
            raise ValueError(f"attributes={self.attributes} must be of {', '.join(ATTRIBUTES)}.")
        if not self.ks or min(self.ks) < 1 or not 0 < self.f1 <= 1:
            raise ValueError(f"ks={self.ks} must be numbers of latents, f1={self.f1} in (0, 1].")


def ioi(
    subjects: Sequence[Subject],
    *,
    n_names: int = 6,
    n_templates: int = 2,
    place: str = "end",
    attributes: Sequence[str] = ATTRIBUTES,
    ks: Sequence[int] = (1, 2, 4),
    f1: float = 0.8,
    splits: int = 2,
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """The scores of every dictionary, of supervised ones, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        n_names, n_templates: as in the task `ioi_prompts`, whose prompts are all of their combinations.
        place: where prompts are read: at the "end", or at "s2", the subject's second name.
        attributes: the attributes that are edited.
        ks: the numbers of latents of an edit.
        f1: the F1 from which a latent is interpretable.
        splits: how many times names are drawn.
        seed: the first seed of the names, the counterparts and the random dictionaries.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with a record of each dictionary, and a row for each setting with the half width of its 95 %
        interval over dictionary seeds and splits. `values.prompts` says what the model does without an edit.

    Raises:
        ValueError: for a subject without a model or with several taps, a transcoder, names that the next token
            does not tell apart, and settings out of bounds.
    """
    how = How(tuple(attributes), tuple(ks), f1)
    how.check()
    if place not in _names.PLACES or splits < 1:
        raise ValueError(f"{place=} must be of {', '.join(_names.PLACES)}, {splits=} at least 1.")
    (subject,) = exactly(1, subjects, "ioi")
    lm, tap = _documents.one_tap(subject, model, tap)
    found: dict[Key, list[dict[str, float]]] = {}
    l0: dict[Key, list[float]] = {}
    prompts = []
    for n in range(seed, seed + splits):
        task = room.make("ioi_prompts", n_names=n_names, n_templates=n_templates, seed=n)
        own = _names.read(lm, tap, task, place)
        site = Site.of(functools.partial(_names.logits, lm, tap, own), own, how, n)
        prompts.append(site.told)
        for at, basis in _bases(subject.trained, own, n).items():
            found.setdefault(at, []).append(scored(site, basis, how))
            l0.setdefault(at, []).append(float((basis.code_SF != 0).sum(1).mean()))
    config = {**how._asdict(), "n_names": n_names, "n_templates": n_templates, "place": place}
    config |= {"splits": splits, "seed": seed, "model": lm.name, "tap": tap}
    return _result(subject, {"eval_config": config, "prompts": prompts}, how, found, l0)


class Site(NamedTuple):
    """Activations with their attributes. head: the model after them. partners: the counterparts of each
    attribute. others: orthonormal directions of all other attributes. io_S, s_S: the names that are right and
    wrong. said_S: the name that the model says. moved: the one that it says with the counterpart's activation
    in the place of its own. clean, ablated: m with the activations, and with their mean."""

    x_SD: np.ndarray
    head: Head
    values: Mapping[str, np.ndarray]
    partners: Mapping[str, np.ndarray]
    others: Mapping[str, np.ndarray]
    io_S: np.ndarray
    s_S: np.ndarray
    said_S: np.ndarray
    moved: Mapping[str, np.ndarray]
    clean: float
    ablated: float

    @classmethod
    def of(cls, head: Head, prompts: Prompts, how: How, seed: int) -> "Site":
        """The site of prompts."""
        x_SD, right = prompts.x_SD, (prompts.io_S, prompts.s_S)
        logits_SN = head(x_SD)
        gone_SN = head(np.tile(x_SD.mean(0), (len(x_SD), 1)))
        both = difference(logits_SN, *right), difference(gone_SN, *right)
        partners = {name: prompts.partners(name, seed) for name in how.attributes}
        others = {name: _others(x_SD, prompts.values, name) for name in how.attributes}
        said_S = logits_SN.argmax(1)
        moved = {name: head(x_SD[at_S]).argmax(1) for name, at_S in partners.items()}
        return cls(x_SD, head, prompts.values, partners, others, *right, said_S, moved, *both)

    @property
    def told(self) -> dict[str, float]:
        """What the model does without an edit. unedited: how often it says already what it should say then."""
        said_S = self.said_S
        found = {"n": float(len(said_S)), "right": float((said_S == self.io_S).mean())}
        found |= {"logit_difference": self.clean, "logit_difference_ablated": self.ablated}
        same = lambda moved_S: float((said_S == moved_S).mean())
        return found | {f"unedited_{name}": same(one) for name, one in self.moved.items()}


def _others(x_SD: np.ndarray, values: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Orthonormal directions `[D, K]` in which the attributes but one lie."""
    rest = {one: values[one] for one in ATTRIBUTES if one != name}
    return scipy.linalg.orth(_ioi.mse_codes(x_SD, rest).atoms_FD.T)


def difference(logits_SN: np.ndarray, io_S: np.ndarray, s_S: np.ndarray) -> float:
    """m: the mean logit of the right name less that of the wrong one."""
    each_S = np.arange(len(io_S))
    return float((logits_SN[each_S, io_S] - logits_SN[each_S, s_S]).mean())


def scored(site: Site, basis: Basis, how: How) -> dict[str, float]:
    """The scores of a dictionary.

    Args:
        site: the activations, and the model after them.
        basis: their codes.
        how: what is measured.

    Returns:
        {key: value} of `how.keys`.
    """
    x_SD, whole_SD = site.x_SD, basis.whole_SD
    m = lambda new_SD: difference(site.head(new_SD), site.io_S, site.s_S)
    whole = site.clean - site.ablated
    share = lambda new_SD: (m(new_SD) - site.ablated) / whole if whole else np.nan
    found = {"sufficiency": share(whole_SD)}
    found["necessity"] = 1 - share(x_SD - (whole_SD - x_SD.mean(0)))
    for name in how.attributes:
        given = site.partners[name], how.ks
        nearest = _ioi.agnostic(x_SD, basis, *given)
        meant = _ioi.guided(x_SD, basis, site.values[name], *given)
        for k in how.ks:
            for way, one in (("", nearest[k]), ("guided_", meant[k])):
                of = zip(_MEASURED, _edited(site, name, one), strict=True)
                found |= {f"{way}{part}_{name}_{k}": value for part, value in of}
    return {**found, "interpretable": interpretable(site.values, basis, how.f1)}


def _edited(site: Site, name: str, edit: _ioi.Edit) -> tuple[float, float, float]:
    """(accuracy, magnitude, miss along other attributes) of an edit of an attribute."""
    wanted_SD = site.x_SD[site.partners[name]]
    said_S = site.head(edit.x_SD).argmax(1)
    missed_S = np.linalg.norm((edit.x_SD - wanted_SD) @ site.others[name], axis=1)
    whole_S = np.linalg.norm(wanted_SD - site.x_SD, axis=1)
    right = float((said_S == site.moved[name]).mean())
    return right, float(edit.magnitude_S.mean()), float((missed_S / whole_S).mean())


def interpretable(values: Mapping[str, np.ndarray], basis: Basis, f1: float) -> float:
    """The share of the latents that fire whose F1 is at least `f1`; NaN where none fires."""
    on_SF = basis.code_SF > 0
    on_SF = on_SF[:, on_SF.any(0)]
    best_F = np.max([_ioi.union_f1(on_SF, values[name]) for name in ATTRIBUTES], axis=0)
    return float((best_F >= f1).mean()) if len(best_F) else np.nan


def _bases(trained: Sequence[Trained], prompts: Prompts, seed: int) -> dict[Key, Basis]:
    """The dictionaries, the supervised ones and the baselines."""
    x_SD, mean_D = prompts.x_SD, prompts.x_SD.mean(0)
    axes_DD = np.linalg.eigh(np.cov(x_SD.T, ddof=0))[1].T[::-1]
    values = {name: prompts.values[name] for name in ATTRIBUTES}
    found = {
        (MEAN_CODES, ""): _ioi.mean_codes(x_SD, values),
        (MSE_CODES, ""): _ioi.mse_codes(x_SD, values),
        (LLM, ""): Basis(x_SD, np.eye(len(mean_D)), np.zeros_like(mean_D)),
        (PCA, ""): Basis((x_SD - mean_D) @ axes_DD.T, axes_DD, mean_D),
    }
    for one in trained:
        found[SAE, one.name] = _coded(one, x_SD)
        l0 = float((found[SAE, one.name].code_SF != 0).sum(1).mean())
        random = _documents.random_dictionary(one.module.n_latents, l0, mean_D, seed)
        found[RANDOM, one.name] = _coded(random, x_SD)
    return found


def _coded(one: Trained, x_SD: np.ndarray) -> Basis:
    """The codes of a dictionary."""
    own = Coded.of(one)
    code_SF = dense_codes(one, x_SD.astype(np.float32)).astype(np.float64)
    return Basis(code_SF, np.asarray(own.atoms_FD, float), np.asarray(own.rest_D, float))


def _result(
    subject: Subject,
    values: Mapping[str, Any],
    how: How,
    found: Mapping[Key, Sequence[Mapping[str, float]]],
    l0: Mapping[Key, Sequence[float]],
) -> Result:
    """The record of each dictionary, and the rows."""
    mean_l0 = lambda kind, names: float(np.mean([l0[kind, name] for name in names]))
    runs = lambda at, key: [one[key] for one in found[at]]
    rows = _asked.rows(subject, how.keys, runs, mean_l0, _ALONE)
    record = lambda at: {
        "eval_result_metrics": {"ioi": {key: float(np.mean(runs(at, key))) for key in how.keys}},
        "eval_result_details": found[at],
    }
    first, k = how.attributes[0], min(how.ks)
    parts = ("edit", "guided_edit", "magnitude")
    heads = {f"{part}_{first}_{k}": f"{part.replace('_', ' ')} {first}" for part in parts}
    heads = {"sufficiency": "sufficiency", "necessity": "necessity", **heads}
    table = _asked.table(
        f"Indirect objects, edits of k {k}", rows, {**heads, "interpretable": "interpretable"}
    )
    dictionaries = {one.name: record((SAE, one.name)) for one in subject.trained}
    given = {"eval_type_id": "ioi", **values, "dictionaries": dictionaries, "settings": rows}
    return Result(given, [table])
