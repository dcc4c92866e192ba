"""Numba loops: arrays in, arrays out. No torch, no argument checks, no input or output."""
