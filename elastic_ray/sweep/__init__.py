"""The command `python -m elastic_ray.sweep`."""
