"""BERT: an encoder, whose forward pass is `bert_model.forward`. The pooler and task heads are left out.

Source: Devlin et al. 2019 (arXiv:1810.04805).
"""

from dictlearn.lm.bert_model import BertSpec, forward
from dictlearn.lm.families._config import Config
from dictlearn.lm.families._names import layered, norm
from dictlearn.lm.names import Names

__all__ = ["NAMES", "forward", "spec"]

NAMES = Names(
    prefixes=("bert.", ""),
    outer={
        "embed_VD": "embeddings.word_embeddings.weight",
        "position_TD": "embeddings.position_embeddings.weight",
        "segment_D": "embeddings.token_type_embeddings.weight",
        **norm("embed_norm", "embeddings.LayerNorm"),
    },
    block=layered(
        {
            **{
                f"W_{one[0]}_DH": f"attention.self.{one}.weight"
                for one in ("query", "key", "value")
            },
            **{f"b_{one[0]}_H": f"attention.self.{one}.bias" for one in ("query", "key", "value")},
            **{"W_o_HD": "attention.output.dense.weight", "b_o_D": "attention.output.dense.bias"},
            **norm("attn_norm", "attention.output.LayerNorm"),
            **{"W_in_DM": "intermediate.dense.weight", "b_in_M": "intermediate.dense.bias"},
            **{"W_out_MD": "output.dense.weight", "b_out_D": "output.dense.bias"},
            **norm("mlp_norm", "output.LayerNorm"),
        },
        "encoder.layer",
    ),
    first_of={"segment_D": 2},
    unembed=(),
    heads=("pooler.", "cls.", "classifier.", "qa_outputs."),
    unused=("embeddings.position_ids",),
)


def spec(config: Config) -> BertSpec:
    """Reads the hyperparameters of a BERT.

    Args:
        config: its `config.json`.

    Returns:
        A BertSpec.

    Raises:
        ValueError: for a value that is missing or out of range, and for another activation, other positions
            or a decoder.
    """
    config.get("tie_word_embeddings")  # of a head that is left out
    config.only("hidden_act", "gelu")
    config.only("position_embedding_type", "absolute")
    config.only("is_decoder", False)
    return BertSpec(
        n_layers=config.number("num_hidden_layers"),
        d_model=config.number("hidden_size"),
        n_heads=config.number("num_attention_heads"),
        d_mlp=config.number("intermediate_size"),
        vocab=config.number("vocab_size"),
        n_positions=config.number("max_position_embeddings"),
        norm_eps=config.number("layer_norm_eps", 1e-12, float),
    )
