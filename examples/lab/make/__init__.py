"""The steps that make the lab: data, tokenizer, base, GGUF, LoRA checkpoints, measurement."""
