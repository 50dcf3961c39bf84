"""What keeps latents alive: dead latents and explained variance with each way to revive them, by width.

    python benchmarks/auxk.py [--data=planted|DIR] [--kind=topk] [--widths=512,1024,2048] [--l0=16]
        [--tokens=262144] [--seeds=2] [--json=FILE]

Ways: no AuxK, AuxK rectified as published, AuxK (recommended), `reanimate` alone, and AuxK with `reanimate`;
all else is recommended. The data are those of benchmarks/recommended.py: planted features, 1024 in 256
dimensions, or a store. A latent is dead that fires on none of the held-out tokens; explained variance is
1 - FVU there. On planted data the share of features found at cosine 0.9 and the precision of the living
latents come with it.
"""

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
from recommended import held_out, measured, recovered, report, run_of, sizes, stream_of, trained

WAYS = {
    "none": ("dictionary.aux_k=0",),
    "rectified": ("dictionary.aux_rectified=True",),
    "auxk": (),
    "reanimate": ("dictionary.aux_k=0", "revive.name='reanimate'"),
    "both": ("revive.name='reanimate'",),
}


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        stream = stream_of(args, seed)
        held_BD = held_out(stream, args.tokens, args.batch)
        for width, way in product(map(int, args.widths.split(",")), args.ways.split(",")):
            asked = argparse.Namespace(**{**vars(args), "n_latents": width, "set": WAYS[way]})
            one = trained(args.kind, seed, asked, stream.d_in)
            found = measured(run_of(one), held_BD)
            found["EV"] = 1 - found.pop("FVU")
            if stream.truth is not None:
                found |= recovered(one, stream.truth, found["dead"])
            yield {"width": width, "way": way, "seed": seed, **found}


def table(found: list[dict]) -> str:
    """Means over the seeds, and half of the range between the lowest and the highest."""
    names = [name for name in found[0] if name not in ("width", "way", "seed")]
    lines = ["| width | way | " + " | ".join(names) + " |", "|" + "---|" * (2 + len(names))]
    for key in dict.fromkeys((row["width"], row["way"]) for row in found):
        mine = [row for row in found if (row["width"], row["way"]) == key]
        values = np.array([[row[name] for name in names] for row in mine])
        shown = zip(values.mean(0), np.ptp(values, axis=0) / 2, strict=True)
        cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in shown]
        lines.append(f"| {key[0]} | {key[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sizes(parser)
    parser.add_argument("--kind", default="topk")
    parser.add_argument("--widths", default="512,1024,2048")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.set_defaults(tokens=2**18, seeds=2)
    args = parser.parse_args()
    print(table(report(rows(args), args.json)))


if __name__ == "__main__":
    main()
