"""Which judgments become training examples: filters, rankings, pairings (data_tools.star puts them together)."""
