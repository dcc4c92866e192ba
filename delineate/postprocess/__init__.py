"""Outputs in, predictions in image coordinates out."""
