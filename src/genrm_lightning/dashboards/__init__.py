"""TensorBoard of a fit: how it learns, what its judge is worth on held-out pairs, what it costs."""
