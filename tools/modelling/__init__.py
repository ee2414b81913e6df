"""Random runs of the model of setup keys on CPython, many of them: see tests/device/model.py."""
