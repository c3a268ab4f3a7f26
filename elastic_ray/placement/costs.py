"""What work costs besides its arithmetic: seconds of start-up, bytes per second, and so on. Pure.

`ON_CPUS` was measured in whole sweeps on two CPU cores, whose processes compete for them
(docs/measured.md). `ON_GPUS` was not measured: it rests on published figures and on the bytes that
have to move.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of each piece of work besides its arithmetic, and speeds in bytes per second."""

    run: float
    """Seconds to start and end Ray and Ray Serve, once."""
    start_state: float
    """Seconds of the job that makes one start state."""
    trainer: float
    """Seconds to start a worker group: processes and imports."""
    engine: float
    """Seconds to start an engine, its weights left out."""
    scorer: float
    """Seconds to start a scorer, its weights left out."""
    scorer_training: float
    """Seconds to train a task's own scorer."""
    ladder: float
    """Seconds to set up a ladder's optimiser and tokenizer, and to close it."""
    step: float
    """Seconds of an optimiser step."""
    offloaded: float
    """Seconds of an offloaded optimiser's step, per parameter of a worker's part."""
    snapshot: float
    """Seconds of a snapshot."""
    swap: float
    """Seconds of a swap of weights."""
    request: float
    """Seconds of an evaluation request: hashing, tokenizing, writing of rows."""
    token: float
    """Seconds of an answered token, in a full batch."""
    answering: float
    """Arithmetic of an answered token in multiples of a read one's: answering waits for memory."""
    loading: float
    """Bytes per second at which a trainer loads weights."""
    copying: float
    """Bytes per second at which a snapshot leaves the device."""
    saving: float
    """Bytes per second at which a checkpoint is written and hashed."""
    swapping: float
    """Bytes per second at which an engine swaps weights and compares them."""


ON_CPUS = Costs(
    run=25.0,
    start_state=8.0,
    trainer=18.0,
    engine=55.0,
    scorer=26.0,
    scorer_training=88.0,
    ladder=0.5,
    step=0.017,
    offloaded=1.5e-9,
    snapshot=0.05,
    swap=0.1,
    request=0.2,
    token=1.5e-4,
    answering=1.0,
    loading=5e8,
    copying=2e9,
    saving=4e8,
    swapping=1e9,
)
ON_GPUS = Costs(
    run=40.0,
    start_state=10.0,
    trainer=30.0,
    engine=90.0,
    scorer=60.0,
    scorer_training=60.0,
    ladder=3.0,
    step=0.03,
    offloaded=5e-10,
    snapshot=0.3,
    swap=0.5,
    request=0.5,
    token=0.0,
    answering=5.0,
    loading=1e9,
    copying=5e9,
    saving=8e8,
    swapping=2e9,
)
