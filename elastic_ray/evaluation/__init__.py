"""When model states are evaluated, and their answers scored.

`state_machine` decides (with `request_queue` and `engine_slots`, all pure) and returns
`instructions`; `evaluator` carries them out. `inference` runs a request on engines, `scoring`
scores its answers, `prompts` holds the prompts and texts.
"""
