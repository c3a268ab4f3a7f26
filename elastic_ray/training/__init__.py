"""Training: one Ray Train run trains ladders with DeepSpeed and saves a checkpoint at each rung.

`job` holds what a worker group is given and reports; `worker_group` starts the group and hands it
jobs, `process_group` connects its processes. In its workers, `ladder` trains the ladders and
`trainer` steps the model, on examples that `batches` and `lesson_examples` provide.
`checkpoint_io` loads and saves weights, `lora` handles adapters, `resume_point` lets an interrupted
ladder continue. `start_states` makes the first states, `scorer_training` trains a task's own
scorer, and `provenance` describes versions and hardware. Only this package imports Ray Train and
DeepSpeed.
"""
