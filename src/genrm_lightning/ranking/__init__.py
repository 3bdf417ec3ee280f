"""From comparisons of two to an order of many: Bradley-Terry, tournaments, rewards of single responses."""
