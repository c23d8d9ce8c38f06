"""Objectives: tensors in, tensors out; what is compared with what is chosen elsewhere."""
