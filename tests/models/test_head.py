import torch

from uniemo.models.head import EmotionHead


def test_two_layers_or_one():
    head = EmotionHead(4, 3, hidden=5, dropout=0.5).eval()
    x = torch.randn(2, 4)
    assert torch.allclose(head(x), head.fc1(head.fc0(x).relu()))
    linear = EmotionHead(4, 3, hidden=None)
    assert list(linear.state_dict()) == ["fc1.weight", "fc1.bias"]
    assert linear(x).shape == (2, 3)


def test_dropout_only_in_training():
    head = EmotionHead(4, 3, hidden=64, dropout=0.5)
    x = torch.randn(2, 4)
    assert not torch.equal(head.train()(x), head(x))
    assert torch.equal(head.eval()(x), head(x))
