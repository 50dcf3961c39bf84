"""CSR: Multi-TopK, TopK at two sparsities, with a contrastive loss between the codes of a batch.

    z = (x - b_dec) W_enc + b_enc      f = ReLU(TopK_k(z))      f' = ReLU(TopK_{multi_factor k}(z))
    loss = L(f) + multi L(f') + AuxK + gamma contrastive(f)          (ops/contrastive.py)

Source: Wen et al. 2025 (arXiv:2503.01776); Multi-TopK from Gao et al. 2024. As in their code, codes are
scaled to unit norm before the contrastive loss. The temperature is 0.2 and the coefficient 0.1 (text and
images; the paper: 1, without scaling). Their settings: F = 4 d_in, aux_k = 512, mean squared error.

Differs: the decoder starts as the encoder's transpose and is then untied, where their code ties them. The two
views of a token come from one forward pass, because theirs are equal. The contrastive loss holds codes as `[B,
F]`.
"""

from typing import ClassVar

from dictlearn.dictionaries._linear import Linear
from dictlearn.ops.contrastive import contrastive
from dictlearn.ops.firing import dense
from dictlearn.types import Out, Scalar


class CSR(Linear):
    """The dictionary, with these hyperparameters.

    Args:
        gamma: the coefficient of the contrastive loss.
        temperature: its temperature.
        unit_codes: whether it scales codes to unit norm.

    The other fields are as in `Linear` and `TopK`.
    """

    takes = ("topk",)
    because = "its two sparsities are the two sparsities of Multi-TopK"
    presets: ClassVar = {"topk": {"multi": 1 / 8}}

    gamma: Scalar = 0.1
    temperature: Scalar = 0.2
    unit_codes: bool = True

    def _check(self):
        super()._check()
        if isinstance(self.temperature, int | float) and self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} must be positive.")

    def _out(self, *found) -> Out:
        out = super()._out(*found)
        f_BF = dense(out.codes, self.n_latents)
        loss_B = contrastive(f_BF, self.temperature, self.unit_codes)
        return out._replace(penalty_B=self.gamma * loss_B)
