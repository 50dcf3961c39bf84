"""Explanations of latents and their scores, by language models behind any interface.

samples    the windows of a latent: disjoint ones to explain and to test, by quantile
explain    the prompt of an explanation, and how its reply is read
scorers/   detection, fuzzing, ...: one file each          clients/    servers, models, journals: one file each
work       sends requests, so many at a time, with the cost known before
"""

from dictlearn.explanations import clients, scorers
from dictlearn.explanations.case import Case, InModel, Plan, Score
from dictlearn.explanations.client import Busy, Client, Reply, Request
from dictlearn.explanations.samples import Example, Sample, Sampling, draw
from dictlearn.explanations.work import Cost, answers, cost

__all__ = [
    "Busy",
    "Case",
    "Client",
    "Cost",
    "Example",
    "InModel",
    "Plan",
    "Reply",
    "Request",
    "Sample",
    "Sampling",
    "Score",
    "answers",
    "clients",
    "cost",
    "draw",
    "scorers",
]
