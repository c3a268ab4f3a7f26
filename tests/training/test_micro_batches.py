"""Micro batches: how a global batch is divided among workers, and how little padding is left."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_ray.spec import Init
from elastic_ray.tasks.registry import load_task
from elastic_ray.training.batches import IGNORED, TokenizedExample, count_targets
from elastic_ray.training.micro_batches import (
    MICRO_BATCH_COST,
    MicroBatch,
    divide,
    shard,
)

PAD = 7
LENGTHS = st.one_of(
    st.lists(st.integers(1, 512), min_size=1, max_size=40),
    st.integers(1, 40).flatmap(lambda n: st.just([n] * n)),  # all equal
    st.lists(st.integers(1, 9), max_size=20).map(lambda short: [*short, 512]),  # one long example
    st.lists(st.integers(1, 300), min_size=65, max_size=150),  # more than there are cuts
)
WORKERS, MICRO_BATCH = st.integers(1, 9), st.integers(1, 24)


def examples(lengths: list[int]) -> list[TokenizedExample]:
    starts = [1000 * i for i in range(1, len(lengths) + 1)]
    return [
        TokenizedExample(list(range(a, a + n)), list(range(a, a + n)))
        for a, n in zip(starts, lengths, strict=True)
    ]


def ragged_rows(part: MicroBatch) -> Iterator[tuple[list[int], list[int]]]:
    """The rows that count, without their padding."""
    for ids, targets in zip(part.ids, part.targets, strict=True):
        length = int((targets != IGNORED).sum())
        assert (targets[length:] == IGNORED).all(), "padding is on the right, and does not count"
        if length:
            assert (ids[length:] == PAD).all()
            yield ids[:length].tolist(), targets[:length].tolist()


def padded(lengths: list[int], part: list[int]) -> int:
    return max((lengths[i] for i in part), default=0) * len(part)


@given(LENGTHS, WORKERS, MICRO_BATCH)
def test_every_example_is_trained_once_by_one_worker(lengths, workers, micro_batch) -> None:
    batch = examples(lengths)
    shards = [shard(batch, rank, workers, micro_batch, PAD) for rank in range(workers)]
    assert len({len(own) for own in shards}) == 1, "ranks step together"
    assert len(shards[0]) <= len(batch)
    parts = [part for own in shards for part in own]
    for part in parts:
        assert part.ids.shape == part.targets.shape
        assert 1 <= len(part.ids) <= micro_batch
    seen = sorted(row for part in parts for row in ragged_rows(part))
    assert seen == sorted((one.ids, one.targets) for one in batch)
    counted = sum(int((part.targets[:, 1:] != IGNORED).sum()) for part in parts)
    assert counted == count_targets(batch)


@given(LENGTHS, WORKERS, MICRO_BATCH)
def test_a_micro_batch_holds_at_most_what_its_rows_could_hold(lengths, workers, micro) -> None:
    for wave in divide(lengths, workers, micro):
        for part in wave:
            assert padded(lengths, part) <= micro * max(lengths)


@given(LENGTHS, WORKERS, MICRO_BATCH)
def test_the_division_follows_from_the_lengths_alone(lengths, workers, micro) -> None:
    once = divide(lengths, workers, micro)
    assert divide(list(lengths), workers, micro) == once
    mixed = list(range(len(lengths)))
    random.Random(0).shuffle(mixed)
    again = divide([lengths[i] for i in mixed], workers, micro)

    def by_length(waves: list[list[list[int]]], of: list[int]) -> list[list[list[int]]]:
        return [[[of[i] for i in part] for part in wave] for wave in waves]

    assert by_length(again, [lengths[i] for i in mixed]) == by_length(once, lengths)


def cost(lengths: list[int], waves: list[list[list[int]]]) -> int:
    return sum(max(padded(lengths, part) for part in wave) + MICRO_BATCH_COST for wave in waves)


def least_cost(ordered: tuple[int, ...], workers: int, micro_batch: int) -> int:
    """The least cost over every way to cut sorted lengths into waves of `workers` parts."""

    def compositions(total: int) -> Iterator[tuple[int, ...]]:
        if total == 0:
            yield ()
        for first in range(1, min(total, micro_batch) + 1):
            for rest in compositions(total - first):
                yield (first, *rest)

    best = 10**9
    for rows in compositions(len(ordered)):
        starts = itertools.accumulate(rows[:-1], initial=0)
        tokens = [ordered[a] * n for a, n in zip(starts, rows, strict=True)]
        # How many parts each wave takes: few enough that all combinations can be tried.
        for waves in range(1, len(tokens) + 1):
            for ends in itertools.combinations(range(1, len(tokens)), waves - 1):
                edges = (0, *ends, len(tokens))
                runs = [tokens[a:b] for a, b in itertools.pairwise(edges)]
                if all(len(run) <= workers for run in runs):
                    best = min(best, sum(max(run) + MICRO_BATCH_COST for run in runs))
    return best


@settings(max_examples=60)
@given(st.lists(st.integers(1, 512), min_size=1, max_size=7), st.integers(1, 3), st.integers(1, 7))
def test_no_other_division_of_the_sorted_rows_costs_less(lengths, workers, micro_batch) -> None:
    ordered = tuple(sorted(lengths, reverse=True))
    assert cost(lengths, divide(lengths, workers, micro_batch)) == least_cost(
        ordered, workers, micro_batch
    )


def lengths_of_reviews(draw: int) -> list[int]:
    """Twenty lengths as IMDb's reviews have them: log-normal, cut at 512 tokens."""
    rng = np.random.default_rng(draw)
    return [int(n) for n in np.minimum(512, np.maximum(20, rng.lognormal(5.5, 0.65, 20)))]


@pytest.mark.parametrize(("workers", "micro_batch"), [(1, 20), (1, 8), (4, 5), (2, 8)])
def test_reviews_are_computed_with_little_padding_and_shared_evenly(workers, micro_batch) -> None:
    real = computed = slowest = 0
    by_rank = np.zeros(workers)
    for draw in range(200):
        lengths = lengths_of_reviews(draw)
        waves = divide(lengths, workers, micro_batch)
        real += sum(lengths)
        computed += sum(padded(lengths, part) for wave in waves for part in wave)
        slowest += sum(max(padded(lengths, part) for part in wave) for wave in waves) * workers
        by_rank += [sum(padded(lengths, wave[r]) for wave in waves) for r in range(workers)]
    assert computed / real <= 1.12
    assert slowest / real <= 1.2, "ranks wait little for each other"
    assert by_rank.max() / by_rank.mean() <= 1.05


def test_equal_lengths_fill_micro_batches_evenly() -> None:
    assert [[len(part) for part in wave] for wave in divide([40] * 32, 1, 8)] == [[8]] * 4
    assert [[len(part) for part in wave] for wave in divide([40] * 20, 4, 5)] == [[5] * 4]


def test_a_worker_without_an_example_gets_a_row_that_does_not_count() -> None:
    [one, other] = (shard(examples([5]), rank, 2, 4, PAD) for rank in range(2))
    assert len(one) == len(other) == 1
    rows = sorted(len(list(ragged_rows(own[0]))) for own in (one, other))
    assert rows == [0, 1]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gpt2"])
def test_padding_on_the_right_needs_no_attention_mask(architecture) -> None:
    """The gradients are those of the same rows, one at a time."""
    torch = pytest.importorskip("torch", reason="the training extra is not installed")
    transformers = pytest.importorskip("transformers", reason="the training extra is missing")
    from elastic_ray.training.start_states import model_config

    tokenizer = load_task("reviews").tokenizer(None)
    config = model_config(Init(architecture=architecture, hidden_size=64, layers=2), tokenizer)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).train()
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, len(tokenizer), n).tolist() for n in (90, 60, 3)]
    [together] = shard([TokenizedExample(row, row) for row in rows], 0, 1, 3, PAD)
    assert together.ids.shape == (3, 90)

    def gradients(parts: Sequence[MicroBatch]) -> list[Any]:
        model.zero_grad()
        for part in parts:
            logits = model(input_ids=torch.tensor(part.ids), use_cache=False).logits[:, :-1]
            expected = torch.tensor(part.targets)[:, 1:].flatten()
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), expected, reduction="sum"
            )
            loss.backward()
        return [p.grad.clone() for p in model.parameters()]

    alone = [MicroBatch(np.array([row]), np.array([row])) for row in rows]
    for mine, plain in zip(gradients([together]), gradients(alone), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-4)
