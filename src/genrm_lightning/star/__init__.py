"""STaR: the judge trains on its own reasoning. stages.py holds a function a stage, loop.py their order."""
