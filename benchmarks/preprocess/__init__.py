"""Preprocessing beside three peers on the same text: see `__main__`."""
