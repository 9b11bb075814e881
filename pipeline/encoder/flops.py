"""The floating-point operations that a step cannot do without: what MFU is a share of. No torch.

Matrix products only, a multiplication and an addition each, forward once and backward twice (Chowdhery et al. 2022,
"PaLM", appendix B). For each layer, with D the hidden and F the intermediate size:

    projections    2 · tokens · (4·D² + 2·D·F)        query, key, value, output; up, down
    attention      4 · pairs · D                      scores and their weighted sum; pairs = Σ length² over sequences
    head           2 · predicted · (D² + D·V)         on the predicted positions only, as it is computed

    model FLOPs = 3 · (layers · (projections + attention) + head)

Norms, activations, softmax, embeddings, the optimizer and recomputation are not counted.
"""

from pipeline.encoder.model_config import ModelConfig


def model_flops(model: ModelConfig, vocab_size: int, tokens: int, pairs: int, predicted: int) -> int:
    """Of a forward and backward pass.

    Args:
        tokens: positions that go through the layers. pairs: of positions, each with all of its sequence.
        predicted: N, positions that the head sees.
    """
    width, inner = model.hidden_size, model.intermediate_size
    projections = 2 * tokens * (4 * width**2 + 2 * width * inner)
    attention = 4 * pairs * width
    head = 2 * predicted * (width**2 + width * vocab_size)
    return 3 * (model.num_hidden_layers * (projections + attention) + head)
