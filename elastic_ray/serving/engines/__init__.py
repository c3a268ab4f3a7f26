"""Engines, which load a state's weights and answer prompts, and scorer backends.

- `engine`: the `Engine` protocol and `make_engine`; `vllm_engine` and `transformers_engine`
  implement it. `scorer`: the same for scorers, with `vllm_scorer` and `transformers_scorer`.
- vLLM: `vllm_runtime` (availability, environment, health), `heartbeat` (detects a silent engine
  process). Inside vLLM's worker: `vllm_weights` (verified loading of weights), `vllm_layout` (where
  each tensor of a file is in vLLM's model), `vllm_proof` (compares them).
- transformers: `transformers_models` (verified loading, models in memory) and
  `transformers_inference` (sampling and log-probabilities of batches).
- Shared: `answer_tokens` (questions to token ids, sampled ids to recorded answers), `scores` (raw
  outputs to scores), `local_weights` (a state's files on this node, checked against their
  checksum), `context` (context lengths), `code_length` (texts as token windows), `distances`
  (between next-token distributions), `scorer_tokenizer`, `score_model` (safe-rlhf's models).
- `next_token`: a recorded state as a next-token predictor, for `theory`.
"""
