"""Corpora prepared for training: small files in tar archives, read at random by key."""
