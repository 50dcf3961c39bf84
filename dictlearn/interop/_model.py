"""Dictionaries of dictlearn in PyTorch. This file needs torch, and nothing else.

sae = load("NAME.safetensors")
f = sae.encode(x)    # [B, F], from raw activations [B, D]
y = sae.decode(f)    # [B, D']; a transcoder with a skip adds what `sae(x)` adds
"""

import json
import struct

import torch

TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class Dictionary(torch.nn.Module):
    """W_enc [D, F], b_enc [F], W_dec [F, D'], b_dec [D'], and optionally threshold [] or [F] and W_skip
    [D, D']. told: the name, the activation and their fields."""

    W_enc: torch.Tensor
    b_enc: torch.Tensor
    W_dec: torch.Tensor
    b_dec: torch.Tensor
    threshold: torch.Tensor | None
    W_skip: torch.Tensor | None

    def __init__(self, arrays: dict[str, torch.Tensor], told: dict):
        super().__init__()
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "W_skip"):
            given = arrays.get(name)
            self.register_parameter(name, None if given is None else torch.nn.Parameter(given))
        self.centred = told.get("d_out") is None and told["subtract_b_dec"]
        self.k, self.signed = told.get("k"), told["activation"] == "abs_topk"
        self.weighted = bool(told.get("norm_weighted"))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        z = (x - self.b_dec if self.centred else x) @ self.W_enc + self.b_enc
        f = z if self.signed else z.relu()
        if self.threshold is not None:
            return f * (f > self.threshold)
        if self.k is None:
            return f
        score = f.abs() * (self.W_dec.norm(dim=1) if self.weighted else 1)
        return torch.zeros_like(f).scatter(
            -1, (top := score.topk(int(self.k)).indices), f.gather(-1, top)
        )

    def decode(self, f: torch.Tensor) -> torch.Tensor:
        return f @ self.W_dec + self.b_dec

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.decode(self.encode(x))
        return y if self.W_skip is None else y + x @ self.W_skip


def load(path: str) -> Dictionary:
    """The dictionary in a safetensors file of `dictlearn export`."""
    with open(path, "rb") as file:
        head = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = bytearray(file.read())
    told = json.loads(head.pop("__metadata__")["dictlearn"])["dictionary"]
    read = lambda at: torch.frombuffer(data[slice(*at["data_offsets"])], dtype=TYPES[at["dtype"]])
    numbers = {name: at for name, at in head.items() if at["dtype"] in TYPES}
    return Dictionary({name: read(at).reshape(at["shape"]) for name, at in numbers.items()}, told)
