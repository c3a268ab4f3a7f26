"""When ladders train: Ray Tune starts each trial once the states that it depends on are recorded.

`ready_queue` orders the trials and holds those that may start; `tune_search` suggests them to Ray
Tune and takes their reports; `trainer_slots` assigns them to the slots of the layout, whose
`worker_groups` live on between trials; `trial_worker` is the process of one trial; `jobs` builds
what the worker groups train. Only this package imports Ray Tune.
"""
