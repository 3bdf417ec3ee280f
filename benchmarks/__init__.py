"""Our numbers beside TRL's: ``python -m benchmarks``. No part of the distribution."""
