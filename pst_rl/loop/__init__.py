"""The training loop around all peers: optimizer, checkpoints, identity of a run, faults."""
