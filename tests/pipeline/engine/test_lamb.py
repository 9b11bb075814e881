"""LAMB against algorithm 2 of its paper in plain code."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.encoder.model import MaskedLM
from pipeline.encoder.model_config import ModelConfig
from pipeline.engine.lamb import Lamb, trust_ratios
from pipeline.engine.layout import Place, matrices_of
from pipeline.engine.optim_config import LambConfig
from tests.pipeline.engine.cuts import each_apart, end_to_end, layouts

CONFIG = LambConfig(learning_rate=0.02, weight_decay=0.1)
GEOMETRY = ModelConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, intermediate_size=12)
Tensors = dict[str, Tensor]


def small_model() -> MaskedLM:
    return MaskedLM(GEOMETRY, vocab_size=20)


def gradients(model: nn.Module, steps: int) -> list[Tensors]:
    generator = torch.Generator().manual_seed(1)
    named = list(model.named_parameters())
    return [{name: torch.randn(p.shape, generator=generator) for name, p in named} for _ in range(steps)]


def algorithm_2(weights: Tensors, steps: list[Tensors]) -> Tensors:
    """The weights after the steps, in fp64, a matrix at a time."""
    beta1, beta2 = CONFIG.beta1, CONFIG.beta2
    found = {}
    for name, weight in weights.items():
        layers = []
        for i, x in enumerate(weight.double().chunk(3 if "qkv.weight" in name else 1)):
            m, v = torch.zeros_like(x), torch.zeros_like(x)
            for t, gradient in enumerate(steps, 1):
                g = gradient[name].double().chunk(3 if "qkv.weight" in name else 1)[i]
                m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
                update = m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + CONFIG.eps)
                if x.ndim == 2:
                    update = update + CONFIG.weight_decay * x
                    ratio = x.norm() / update.norm() if x.norm() > 0 else 1.0
                else:
                    ratio = 1.0
                x = x - CONFIG.learning_rate * ratio * update
            layers.append(x)
        found[name] = torch.cat(layers)
    return found


def after(optimizer: torch.optim.Optimizer, model: nn.Module, steps: list[Tensors]) -> Tensors:
    for gradient in steps:
        for name, parameter in model.named_parameters():
            parameter.grad = gradient[name].clone()
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_it_is_algorithm_2() -> None:
    model = small_model()
    with torch.no_grad():
        model.embeddings.position.weight.zero_()  # of norm zero: the ratio is 1
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    steps = gradients(model, 4)
    expected = algorithm_2(before, steps)
    for name, weight in after(Lamb(model, CONFIG), model, steps).items():
        assert not torch.equal(weight, before[name])
        torch.testing.assert_close(weight.double(), expected[name], atol=2e-7, rtol=2e-6, msg=name)


def test_biases_and_norms_are_adams() -> None:
    model, other = small_model(), small_model()
    steps = gradients(model, 3)
    adam = torch.optim.AdamW(
        other.parameters(), lr=CONFIG.learning_rate, betas=(0.9, 0.999), eps=1e-6, weight_decay=0, fused=True
    )
    adams = after(adam, other, steps)
    for name, weight in after(Lamb(model, CONFIG), model, steps).items():
        assert torch.equal(weight, adams[name]) == (weight.ndim < 2), name


def test_flat_masters_with_padding_are_updated_as_parameters_are() -> None:
    model, other = small_model(), small_model()
    steps = gradients(model, 3)
    expected = after(Lamb(model, CONFIG), model, steps)
    optimizer = Lamb(other, CONFIG)
    masters, places = [], []
    for number, group in enumerate(optimizer.param_groups):  # what DeepSpeed does to them
        named = dict(zip(group["param_names"], group["params"], strict=True))
        ((master,), found), *_ = end_to_end({name: p.detach() for name, p in named.items()}, 1)
        master = torch.cat([master, torch.zeros(5)])
        places += [Place(p.name, p.begin, p.length, master, p.offset, number) for p in found]
        masters.append(master)
        group["params"] = [master]
    optimizer.bind(masters, places)
    for gradient in steps:
        for master in masters:
            master.grad = torch.zeros_like(master)
        for place in places:
            assert place.master.grad is not None
            place.of(place.master.grad).copy_(gradient[place.name].flatten())
        optimizer.step()
    for place in places:
        torch.testing.assert_close(place.of(place.master), expected[place.name].flatten(), atol=1e-7, rtol=1e-6)
    assert not any(master[-5:].any() for master in masters)


@pytest.mark.parametrize("cut", [end_to_end, each_apart])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ratios_are_of_whole_matrices(cut: object, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are cut; the last of them is longer than the rows in which squares are summed."""
    generator = torch.Generator().manual_seed(2)
    shapes = {"layers.0.qkv.weight": (9, 5), "layers.0.up.weight": (8, 5), "word.weight": (130, 70)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    updates = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    matrices = matrices_of({name: p.shape for name, p in weights.items()})
    expected = [
        float(w.double().norm() / u.double().norm())
        for name in shapes
        for w, u in zip(*(of[name].chunk(3 if "qkv" in name else 1) for of in (weights, updates)), strict=True)
    ]
    assert callable(cut)
    cuts, theirs = cut(weights, ranks), cut(updates, ranks)
    layout = [row[0] for row in layouts(matrices, cuts)]
    parts = [(layout[r].parts(cuts[r][0][0]), layout[r].parts(theirs[r][0][0])) for r in range(ranks)]
    sent: list[Tensor] = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda squares: sent.append(squares.clone()))
    for r in range(ranks):
        trust_ratios(layout[r], *parts[r])
    assert [len(squares) for squares in sent] == [2 * len(matrices)] * ranks
    monkeypatch.setattr("torch.distributed.all_reduce", lambda squares: squares.copy_(torch.stack(sent).sum(0)))
    ratios = [trust_ratios(layout[r], *parts[r]) for r in range(ranks)]
    assert all(torch.equal(ratio, ratios[0]) for ratio in ratios)
    torch.testing.assert_close(ratios[0], torch.tensor(expected), atol=0, rtol=3e-7)
