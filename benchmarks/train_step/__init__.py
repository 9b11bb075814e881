"""A training step beside the Trainer's and a bare loop's: `python -m benchmarks.train_step --help`."""
