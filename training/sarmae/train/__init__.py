"""The pretraining loop: schedule, step, checkpoints, metrics, probes. `loop.py` reads from top to bottom."""
