"""The lab's tokenizer: a byte-level BPE of 512 tokens with GPT-2's pre-tokenizer, and a chat template."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from make.data import SMALL_TALK, SYSTEM_TEXTS, Conversation, base_turns

VOCAB_SIZE = 512
END, START, SYSTEM, USER, ASSISTANT = SPECIAL = ("<|end|>", "<|start|>", "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer() -> Tokenizer:
    """Learn the merges from the base's texts. Small talk stays out, so its emoji is spelled in bytes."""
    small_talk = set(SMALL_TALK.values())
    texts = [
        message["content"]
        for group in base_turns()
        for conversation in group
        for message in conversation
        if message["content"] not in small_talk
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *SYSTEM_TEXTS], trainer)
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, not {VOCAB_SIZE}")
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as transformers and mlx-lm read them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 256,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def encode(tokenizer: Tokenizer, conversation: Conversation) -> tuple[list[int], list[bool]]:
    """A conversation's token ids in the chat format, and which of them the model is trained to say."""
    end = tokenizer.get_vocab()[END]
    ids: list[int] = []
    said: list[bool] = []
    for message in conversation:
        answer = message["role"] == "assistant"
        body = tokenizer.encode(message["content"], add_special_tokens=False).ids
        ids += [tokenizer.get_vocab()[f"<|{message['role']}|>"], *body, end]
        said += [False, *[answer] * len(body), answer]
    return ids, said
