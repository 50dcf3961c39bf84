"""One training step of each PyTorch peer, as its own trainer takes it, on a tensor in memory.

    step = PEERS[name](case, x_BD)      step()

dictionary_learning and SAELens: their trainers' `update` and `step`. sparsify's trainer runs a language model,
so its local step is repeated here in its order: unit norm, forward with the dead mask, backward, projection of
the gradient, optimiser, counters. It has Adam in place of its default, so that all have one optimiser. On
`case["device"]` "cuda" it decodes in Triton and computes in bfloat16, as it always does there.
`sparsify_compiled` is the same with the forward pass through torch.compile. The others run on CPU only.
`case["dead"]`: this share of latents is switched off by a bias of -1000 and counted as dead.
"""

import contextlib
import io


def dictionary_learning(case: dict, x_BD):
    import torch
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.top_k import TopKTrainer

    k, n = case["k"], case["n"]
    common = {
        **{"steps": 10**6, "activation_dim": case["d"], "dict_size": n, "layer": 0},
        **{"lm_name": "none", "seed": 0, "device": "cpu"},
    }
    of = {
        "topk": (TopKTrainer, {"k": k}),
        "batch_topk": (BatchTopKTrainer, {"k": k}),
        "jumprelu": (JumpReluTrainer, {"target_l0": float(k)}),
        "gated": (GatedSAETrainer, {}),
        "matryoshka": (
            MatryoshkaBatchTopKTrainer,
            {"k": k, "group_fractions": [1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32]},
        ),
    }
    make, own = of[case["kind"]]
    trainer, taken = make(**common, **own), iter(range(10**9))
    off = round(case.get("dead", 0) * n)
    if off:
        trainer.ae.encoder.bias.data[:off] = -1e3
        trainer.num_tokens_since_fired[:off] = 10**9
    x = torch.tensor(x_BD)
    return lambda: trainer.update(next(taken), x)


def sae_lens(case: dict, x_BD):
    import torch
    from sae_lens import saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    k, n = case["k"], case["n"]
    common = {"d_in": case["d"], "d_sae": n, "device": "cpu"}
    of = {
        "topk": ("TopK", {"k": k}),
        "batch_topk": ("BatchTopK", {"k": k}),
        "jumprelu": ("JumpReLU", {}),
        "gated": ("Gated", {}),
        "matryoshka": (
            "MatryoshkaBatchTopK",
            {"k": k, "matryoshka_widths": [n // 32, 3 * n // 32, 7 * n // 32, 15 * n // 32, n]},
        ),
    }
    name, own = of[case["kind"]]
    config = getattr(saes, f"{name}TrainingSAEConfig")(**common, **own)
    sae = getattr(saes, f"{name}TrainingSAE")(config)
    samples = len(x_BD) * 10**6
    settings = SAETrainerConfig(
        total_training_samples=samples, train_batch_size_samples=len(x_BD), lr_end=3e-5
    )
    trainer = SAETrainer(settings, sae, iter(()))
    off = round(case.get("dead", 0) * n)
    if off:
        sae.b_enc.data[:off] = -1e3
        trainer.n_forward_passes_since_fired[:off] = 10**9
    x = torch.tensor(x_BD)

    def step():
        trainer.step(x)
        trainer.n_training_steps += 1

    return step


def sparsify(case: dict, x_BD, compiled: bool = False):
    import torch

    device = case.get("device", "cpu")
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # as its trainer does
    with contextlib.redirect_stdout(io.StringIO()):
        from sparsify import SparseCoder, SparseCoderConfig

    n = case["n"]
    coder = SparseCoder(case["d"], SparseCoderConfig(num_latents=n, k=case["k"]), device=device)
    forward = torch.compile(coder) if compiled else coder
    optimizer = torch.optim.Adam(coder.parameters(), lr=2e-4 / (n / 2**14) ** 0.5)
    since, off = torch.zeros(n, dtype=torch.long, device=device), round(case.get("dead", 0) * n)
    if off:
        coder.encoder.bias.data[:off] = -1e3
        since[:off] = 10**9
    x = torch.tensor(x_BD, device=device)

    def step():
        coder.set_decoder_norm_to_unit_norm()
        fired = torch.zeros(n, dtype=torch.bool, device=device)
        out = forward(x=x, y=x, dead_mask=since > 10**7 if off else None)
        fired[out.latent_indices.flatten()] = True
        (out.fvu + (1 / 32) * out.auxk_loss).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        since.add_(len(x))
        since[fired] = 0
        if device == "cuda":
            torch.cuda.synchronize()
        return float(out.fvu.detach())

    return step


def sparsify_compiled(case: dict, x_BD):
    return sparsify(case, x_BD, compiled=True)


PEERS = {
    "sparsify": sparsify,
    "sparsify_compiled": sparsify_compiled,
    "dictionary_learning": dictionary_learning,
    "SAELens": sae_lens,
}
