"""Predictions and targets in, numbers out; NaN where a number is undefined."""
