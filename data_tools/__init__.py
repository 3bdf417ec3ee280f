"""Text and tables for generative reward models: polars, rich and the standard library, no torch."""
