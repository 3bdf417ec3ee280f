"""Generative reward models on Lightning: tokens, tensors and checkpoints. Text and tables live in data_tools."""

__version__ = "0.1.0"
