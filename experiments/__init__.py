"""One file per run; the docstring of each gives command, hardware, minutes and result."""
