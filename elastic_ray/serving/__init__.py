"""Serving: engines that answer for any state of their kind, and scorers, as Ray Serve deployments.

`values` what is asked and answered; `lease` who may use the weights held; `engine` (vLLM) and
`plain_engine` (transformers) the two engines; `scorer` the classifiers; `deployments` the Serve
replicas and their routing; `fleet` the driver's side. Only this room knows Ray Serve and vLLM.
"""
