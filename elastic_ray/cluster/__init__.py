"""The Ray cluster that a sweep runs on.

- `ray_cluster`: connects to a running cluster or starts one, and lists its nodes
- `inventory`: the nodes that a sweep would run on now, for `--dry-run`
- `spot_watcher`: a program that drains a node when EC2 takes it back, from `instance_metadata`
"""
