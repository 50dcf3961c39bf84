"""Continuations of prompts with and without a push of a latent, for the scorer `intervention`."""

from collections.abc import Callable, Sequence

from dictlearn.explanations.case import InModel
from dictlearn.lm import Prompts, generate, prompts
from dictlearn.lm.cells import decode
from dictlearn.steering import Intervention, Unreachable, calibrated, steer

Steered = Callable[[Sequence[Sequence[int]], int, float, int], list[tuple[str, str]]]
"""(prompts as tokens, number of tokens, KL, seed) -> each prompt with its continuation, without a push of the
latent and with it."""
_CALIBRATED = 8
"""The number of prompts on which the strength is found."""


def steered_of(model: InModel, latent: int) -> Steered:
    """The continuations of a model while a latent is pushed.

    Args:
        model: the dictionary in its model.
        latent: the latent.

    Returns:
        A function of prompts as tokens, a number of tokens, a KL and a seed. It returns the prompts as texts,
        continued without the push and with it; nothing where no strength gives the KL.
    """
    dictionary, lm, _ = model
    push = Intervention("add", latents=(latent,))

    def continued(
        texts: Sequence[Sequence[int]], n_tokens: int, kl: float, seed: int
    ) -> list[tuple[str, str]]:
        given = prompts(lm, [[lm.separator, *text] for text in texts])
        few = Prompts(given.tokens_BP[:_CALIBRATED], given.length_B[:_CALIBRATED])
        try:
            strength = calibrated(lm, dictionary, push, few, kl).strength
        except Unreachable:
            return []
        sampling = {"n_tokens": n_tokens, "temperature": 1.0, "seed": seed}
        clean = generate(lm, given, **sampling)
        pushed = steer(lm, dictionary, push, given, strength=strength, **sampling)
        read = lambda found: [
            decode(lm.tokenizer, [*text, *more])
            for text, more in zip(texts, found.texts(), strict=True)
        ]
        return list(zip(read(clean), read(pushed), strict=True))

    return continued
