"""Token shards → weights → exported model. Read `pipeline.train` first: it is the loop."""
