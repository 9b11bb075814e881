"""DeepSpeed around the model, and the optimizers: how a step's gradient becomes an update."""
