"""Pure functions on tensors: check the arguments, call a kernel."""
