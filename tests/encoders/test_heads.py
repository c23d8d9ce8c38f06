import torch
from torch import nn

from earsight.config import HeadConfig
from earsight.encoders.heads import MLPHead


def test_layers_without_norm_stand_where_the_released_ones_do():
    head = MLPHead(512, HeadConfig())
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes == {
        "projection.0.weight": (512, 512),
        "projection.0.bias": (512,),
        "projection.2.weight": (512, 512),
        "projection.2.bias": (512,),
        "projection.4.weight": (128, 512),
        "projection.4.bias": (128,),
    }


def test_equals_formula():
    torch.manual_seed(0)
    head = MLPHead(6, HeadConfig(hidden=(5, 4), dim=3)).double()
    x = torch.randn(7, 6, dtype=torch.float64)
    first, second, last = head.projection[0], head.projection[2], head.projection[4]
    y = (x @ first.weight.T + first.bias).clamp(min=0)
    y = (y @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(head(x), y @ last.weight.T + last.bias)


def test_norm_stands_before_each_relu_and_at_the_end():
    torch.manual_seed(0)
    head = MLPHead(6, HeadConfig(hidden=(5,), dim=3, norm=True)).double()
    x = torch.randn(9, 6, dtype=torch.float64)

    def standard(y):
        return (y - y.mean(0)) / (y.var(0, unbiased=False) + 1e-5).sqrt()

    hidden = standard(x @ head.projection[0].weight.T).clamp(min=0)
    torch.testing.assert_close(head(x), standard(hidden @ head.projection[2].weight.T))
    assert head.projection[0].bias is None
    assert head.projection[2].bias is None
    assert sum(isinstance(part, nn.BatchNorm1d) for part in head.modules()) == 2


def test_without_hidden_layers_it_is_linear():
    head = MLPHead(6, HeadConfig(hidden=(), dim=3))
    assert [type(layer) for layer in head.projection] == [nn.Linear]
