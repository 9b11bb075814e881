"""The command line, and one run on one or many machines."""
