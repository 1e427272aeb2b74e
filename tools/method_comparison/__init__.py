"""The parts of the comparison of methods on the mini world; run by `tools/compare_methods.py`."""
