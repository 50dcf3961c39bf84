"""Detection: a judge reads the explanation and says which windows the latent fires in, without marks.

    score = balanced accuracy over windows that fire, from all quantiles, and silent ones

Source: delphi (code of 0.1.3); Paulo et al. 2024, "Automatically interpreting millions of features in large
language models" (arXiv:2410.13928).
Differs: our own prompt; a reply that cannot be read is counted as failed and left out of the rates.
"""

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan
from dictlearn.explanations.scorers import _batches
from dictlearn.explanations.scorers._batches import Question


def detection(case: Case, *, n: int = 5, probabilities: bool = False) -> Plan:
    """The plan of detection.

    Args:
        case: the latent, its explanation and its windows.
        n: the number of windows in a prompt.
        probabilities: asks for those of the answers too; adds the area under the ROC curve, `auc`.

    Returns:
        A Plan.
    """
    windows = (*case.sample.test, *case.sample.silent)
    questions = [Question(one.text, one.fires, one.quantile) for one in windows]
    return _batches.plan(case, questions, templates.load("detection"), n, probabilities)
