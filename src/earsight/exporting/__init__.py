"""A finished run as files that stand alone: weights, ONNX and torch.export graphs, a card."""
