"""Token shards → weights → exported model. Read `pipeline.train` first: it is the loop.

The folders, in the data's way: `corpus` (on disk), `samples` (which, masked how), `encoder` (what is computed),
`engine` (DeepSpeed and the optimizers), `checkpoints` (what a run goes on from), `watching` (what sees that it is
well); then `evaluate`, `export` and `finetuning`.
"""
