"""The table of docs/steering.md: ten latents of SmolLM2 pushed to one KL, and the words of their topics.

    dictlearn harvest --config=experiments/quickstart.py --workdir=runs/steer
    dictlearn train --config=experiments/quickstart.py --workdir=runs/steer --config.steps=600 \
        --config.sweep.n_latents='(3072,)' --config.sweep.k='(32,)' --config.sweep.seed='(0,)' \
        --config.stream.normalise=unit_mean_sq --config.learner.dead_after=60000 \
        --config.dictionary.aux_k=32 --config.dictionary.aux_rectified=True \
        --config.rule='{"name": "adam", "lr": 4e-3, "warmup_steps": 10, "decay_fraction": 0.3}'
    python benchmarks/steering.py runs/steer            # or some latents only: runs/steer 1343 803

The latents belong to that dictionary. The words were written down from its feature pages, before any steering.
"""

import argparse

import jax
import numpy as np

import dictlearn
from dictlearn import lm as language
from dictlearn import steering
from dictlearn.steering import Intervention

KL = 0.5
TOPICS = {
    1343: "galaxy galaxies nebula star stars stellar astronomical telescope cosmic universe",
    1232: "atom atoms atomic electron electrons nucleus nuclear proton particle particles",
    1213: "tax taxes taxation income revenue taxed taxpayer taxpayers",
    2156: "martial arts karate judo fighting fighter combat boxing Kung wrestling",
    574: "goddess god gods Zeus Apollo Artemis Greek mythology deity divine",
    924: "California Los San Angeles Francisco Californian Sacramento Hollywood CA",
    803: "dance dancing dancers dances dancer choreography ballet Dance",
    323: "pope Pope papal Church church Catholic Rome Vatican cardinal bishop",
    1012: "knitting crochet yarn stitch stitches knit fabric knitted needle needles",
    1218: "brain brains neural cerebral cognitive neurons neuro Brain",
}
PROMPTS = (
    "I went for a walk yesterday and",
    "The most important thing to know is",
    "My friend told me that",
    "She opened the box and found",
    "In my opinion, the best",
    "When we arrived at the house,",
    "The teacher asked the students to write about",
    "It is well known that",
    "Last night I had a dream about",
    "The company announced that it",
)
CONTINUED = ("I think that", "Yesterday, my friend and I")


def encoded(lm: language.LM, text: str) -> list[int]:
    return lm.tokenizer.encode(text, add_special_tokens=False).ids


def prompts(lm: language.LM, texts) -> language.Prompts:
    return language.prompts(lm, [[lm.separator, *encoded(lm, text)] for text in texts])


def tokens_of(lm: language.LM, words: str) -> list[int]:
    """The words that are one token, capitalised or not, with a space before them or not."""
    forms = {
        before + form
        for word in words.split()
        for form in (word, word.capitalize())
        for before in (" ", "")
    }
    return sorted({ids[0] for form in forms if len(ids := encoded(lm, form)) == 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir")
    parser.add_argument("latents", nargs="*", type=int, default=list(TOPICS))
    arguments = parser.parse_args()
    lm, (sae, *_) = language.load("smollm2"), dictlearn.restore(arguments.workdir)
    read, continued = prompts(lm, PROMPTS), prompts(lm, CONTINUED)
    plain_BPV = jax.nn.softmax(lm.forward(lm.params, read.tokens_BP)[0])
    plain_V = np.asarray(plain_BPV)[read.mask_BP()].mean(0)
    random = np.random.default_rng(0)
    for latent, words in TOPICS.items():
        direction_D = random.normal(size=lm.spec.d_model)
        direction_D /= np.linalg.norm(direction_D)
        if latent not in arguments.latents:
            continue
        any_way = Intervention("add", direction=tuple(direction_D.tolist()))
        push, topic = Intervention("add", (latent,)), tokens_of(lm, words)
        found, other = (steering.calibrated(lm, sae, one, read, KL) for one in (push, any_way))
        shares = [
            plain_V[topic].sum() + gain
            for gain in (0, *(e.gain_V[topic].sum() for e in (found, other)))
        ]
        print(latent, f"strength {found.strength:.3f}  KL {found.kl:.3f}", end="  ")
        print("plain {:.4%}  pushed {:.4%}  random direction {:.4%}".format(*shares))
        given = {"n_tokens": 40, "strength": found.strength}
        for text in steering.steer(lm, sae, push, continued, **given).texts():
            print("   ", repr(lm.tokenizer.decode(text)))


if __name__ == "__main__":
    main()
