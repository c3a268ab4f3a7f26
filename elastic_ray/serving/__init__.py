"""Serving: Ray Serve applications that answer for any state, and that score answers.

Only this package imports Ray Serve and vLLM. The driver's side:

- `fleet`: the entry point, used by `driver` and `evaluation`.
- `launcher`, `applications`, `replica_options`: which replicas run where, and how they start.
- `dispatcher`: which replica gets a request, and retries.
- `stragglers`: reports of slow work. `reaper`: cleans up after a dead driver.

The replicas' side:

- `deployments`: the replicas and their routing. `weight_lease`: safe swaps of weights.
- `replica_process`: a replica's processes end together.
- `engines/`: engines and scorer backends on vLLM and transformers.

Both sides share `types` (requests and results) and `errors`.
"""
