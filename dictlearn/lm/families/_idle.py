"""Keys of a `config.json` that do not affect the outputs of a loaded model.

They are its name, its training, settings of generation, and repetitions of its tensors or its tokenizer.
"""

_NAMES = {
    *(
        "model_type",
        "architectures",
        "auto_map",
        "_name_or_path",
        "name_or_path",
        "tokenizer_class",
    ),
    *("transformers_version", "transformers.js_config", "torch_dtype", "dtype", "unsloth_version"),
    *("unsloth_fixed", "is_llama_config", "_commit_hash", "base_model", "model_max_length"),
}
_TRAINING = {
    *("initializer_range", "initializer_factor", "gradient_checkpointing", "pretraining_tp"),
    *("attention_dropout", "hidden_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop"),
    *("embed_dropout", "resid_dropout", "embedding_dropout", "residual_dropout", "mlp_dropout"),
    *("classifier_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob"),
}
_RUNNING = {
    *("use_cache", "return_dict", "output_attentions", "output_hidden_states", "torchscript"),
    *("chunk_size_feed_forward", "use_bfloat16", "tf_legacy_loss", "cache_implementation"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
    *("reorder_and_upcast_attn", "is_decoder", "tie_encoder_decoder", "use_flash_attn"),
}
_TASKS = {
    *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params"),
    *("finetuning_task", "summary_activation", "summary_first_dropout", "summary_type"),
    *("summary_proj_to_labels", "summary_use_proj"),
}
_GENERATION = {
    *("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups"),
    *("diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"),
    *("length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
    *("num_return_sequences", "forced_bos_token_id", "forced_eos_token_id", "output_scores"),
    *("remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "prefix"),
    *("begin_suppress_tokens", "return_dict_in_generate"),
}
_STATED_AGAIN = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id"),
    *("mask_token_id", "cls_token_id", "decoder_start_token_id", "image_token_id"),
    *("max_position_embeddings", "n_ctx", "type_vocab_size"),
}
IDLE = _NAMES | _TRAINING | _RUNNING | _TASKS | _GENERATION | _STATED_AGAIN
