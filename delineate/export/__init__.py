"""Models in formats that other tools run."""
