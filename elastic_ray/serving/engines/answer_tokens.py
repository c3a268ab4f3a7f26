"""How a question becomes token ids, and how an answer's token ids become what is recorded.

Every engine is given the ids that `questions` returns, and records what `answer` makes of the ids
that it sampled, so that engines differ in their arithmetic only:

- The question is the prompt with what the tokenizer puts before it, never after it
  (`tasks.prompt_tokens`).
- An answer ends at the tokenizer's end token, with which this package trains, or at one of those
  that the model's generation configuration names. It counts as a token, and is not in the text.
  Nothing else of that configuration is used: `generation` of the sweep file says how is sampled.
- The text is what the answer adds to the text of the question, leading space included, without
  special tokens. Bytes at its end that are not a whole character are left off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...tasks.prompt_tokens import prompt_ids
from ..errors import EngineError
from ..types import Answer, EngineConfig
from .context import Prompts, check_fits_context, context_length

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers decode bytes to that are not a whole character."""


class AnswerTokens:
    """An engine's tokenizer and end tokens. Threads may share it."""

    def __init__(self, config: EngineConfig) -> None:
        from transformers import AutoTokenizer

        self.context = context_length(config)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(
            config.checkpoint,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
        # The tokenizer is always called without padding and truncation; this call turns off what
        # its file may turn on.
        self.tokenizer([""])
        self.ends = end_tokens(config, self.tokenizer)

    def questions(self, prompts: Prompts, max_tokens: int) -> list[list[int]]:
        """Return the token ids of each prompt.

        Raises `EngineError` if one has no tokens, or exceeds the context with its longest answer.
        """
        found = prompt_ids(self.tokenizer, [text for _, text in prompts])
        for (index, _), ids in zip(prompts, found, strict=True):
            if not ids:
                raise EngineError(f"prompt {index} has no tokens; an answer needs at least one")
            check_fits_context(len(ids) + max_tokens, self.context)
        return found

    def answer(
        self,
        place: tuple[int, int, str],
        question: Sequence[int],
        sampled: Sequence[int],
        source: tuple[str, int, str],
    ) -> Answer:
        """Return the record of an answer.

        `place` is (prompt index, sample, prompt), `source` (held state, seed, engine); `sampled`
        are the answer's tokens, with the end token if it has one.
        """
        ended = bool(sampled) and sampled[-1] in self.ends
        text = answer_text(self.tokenizer, question, sampled[:-1] if ended else sampled)
        return Answer(*place, text, len(sampled), "stop" if ended else "length", *source)


def answer_text(tokenizer: Any, question: Sequence[int], answer: Sequence[int]) -> str:
    """Return the text that the answer's tokens add to that of the question's tokens."""
    before = _decode(tokenizer, question)
    whole = _decode(tokenizer, [*question, *answer])
    if not whole.startswith(before):  # a decoder that changes what comes before a token
        before, whole = "", _decode(tokenizer, answer)
    return whole[len(before) :].rstrip(INCOMPLETE)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


def end_tokens(config: EngineConfig, tokenizer: Any) -> frozenset[int]:
    """Return the ids of the tokens at which an answer ends.

    States of one engine group share them: a checkpoint keeps the generation configuration of the
    state that it was trained from.
    """
    from transformers import AutoConfig, GenerationConfig

    source: dict[str, Any] = {"revision": config.revision}
    model = AutoConfig.from_pretrained(
        config.checkpoint, trust_remote_code=config.trust_remote_code, **source
    )
    try:
        generation = GenerationConfig.from_pretrained(config.checkpoint, **source)
    except OSError:  # it has no such file
        generation = GenerationConfig.from_model_config(model)
    named = generation.eos_token_id
    known = {tokenizer.eos_token_id, *(named if isinstance(named, list | tuple) else [named])}
    size = getattr(model.get_text_config(), "vocab_size", None)
    return frozenset(
        int(each) for each in known if each is not None and (size is None or 0 <= each < size)
    )
