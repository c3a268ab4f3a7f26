"""Training: a ladder as a Ray Train run over DeepSpeed, from a parent's saved weights to snapshots.

`values` what is to be trained; `run` the worker group; `ladder` one ladder; `batches` the order of
examples; `snapshot` weights to and from folders; `adapters` LoRA; `starts` the first states;
`classifier` a task's own scorer. Only this room knows Ray Train and DeepSpeed.
"""
