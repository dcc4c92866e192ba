"""Outputs and targets in, named scalars out."""
