"""Tokenizers of models trained from scratch: made from the task's own text, the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .task import TaskError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<bos>", "<pad>", "<eos>", "<unk>")
"""Ids 0 to 3. The padding is 1, as RoBERTa's position numbering has it."""
SMALLEST = 256 + len(SPECIAL)
"""The least byte-level vocabulary: a token for every byte, and the special ones."""
LONGEST = 100_000
"""`model_max_length`: the model's own limit counts, not the tokenizer's."""


def words(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """One token per word of a closed vocabulary, in the order given; words lie between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {word: i for i, word in enumerate([*SPECIAL, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finish(tokenizer)


def byte_pairs(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocab_size` tokens (from `SMALLEST`) learnt from the texts.

    Fewer than `vocab_size` where the texts hold fewer pairs.
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
    """Every encoded text begins with <bos>."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", SPECIAL.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def check_vocabulary(task: str, vocab_size: int | None) -> None:
    """`TaskError` for a byte-level vocabulary that is too small."""
    if vocab_size is not None and vocab_size < SMALLEST:
        raise TaskError(
            f"task {task}: init.vocabulary: found {vocab_size}; at least {SMALLEST} "
            "(every byte has a token)"
        )
