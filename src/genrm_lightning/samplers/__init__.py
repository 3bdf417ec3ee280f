"""Samplers: judge prompts in, rationales with their verdicts out. One interface, one file a backend."""
