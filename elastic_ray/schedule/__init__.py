"""When ladders train: Ray Tune releases each trial once the states it starts from exist."""
