"""Training: one Ray Train run trains ladders with DeepSpeed and saves a checkpoint at each rung.

`job` holds what a worker group is given and reports; `worker_group` starts the group and hands it
jobs, `process_group` connects its processes. In its workers, `ladder` trains the ladders and
`trainer` steps the model, on examples that `batches` and `lesson_examples` provide.
`micro_batches` divides a batch, `ahead` prepares the next one, `loss` is the model's output, and
`deepspeed_config` says how it runs; `out_of_memory` names the setting to change. `checkpoint_io`
loads and saves weights, `snapshot_writer` saves them while the next steps train, `lora` handles
adapters, `resume_point` and `point_writer` let an interrupted ladder continue. `agreement` lets
ranks agree, `held_memory` decides whether a process must end after a ladder. `start_states` makes
the first states, `scorer_training` trains a task's own scorer, and `provenance` describes versions
and hardware. Only this package imports Ray Train and DeepSpeed.
"""
