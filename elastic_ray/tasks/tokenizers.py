"""Deterministic tokenizers for models trained from scratch, made from the task's own text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .task import TaskError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<pad>", "<eos>", "<unk>")
"""Special tokens, ids 0 to 3. Padding is 1 because RoBERTa's position ids assume it."""
MIN_VOCABULARY = 256 + len(SPECIAL)
"""Smallest byte-level vocabulary: one token per byte, plus the special tokens."""
MODEL_MAX_LENGTH = 100_000
"""`model_max_length`; large, because the model's own limit applies instead."""


def word_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per word of `vocabulary`; texts are split at spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {word: i for i, word in enumerate([*SPECIAL, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finish(tokenizer)


def byte_pair_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of `vocab_size` tokens, trained on the texts.

    `vocab_size` is at least `MIN_VOCABULARY`. The vocabulary is smaller where the texts have too
    few pairs.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _finish(tokenizer)


def _finish(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return the tokenizer for transformers; every encoded text begins with <bos>."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", SPECIAL.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # its class has no type hints
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=MODEL_MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def check_vocabulary(task: str, vocab_size: int | None) -> None:
    """Raise `TaskError` for a byte-level vocabulary that is too small."""
    if vocab_size is not None and vocab_size < MIN_VOCABULARY:
        raise TaskError(
            f"task {task}: init.vocabulary: found {vocab_size}; at least {MIN_VOCABULARY} "
            "(every byte has a token)"
        )
