"""Predictions and targets in, numbers out; NaN where a number is undefined."""

from delineate.metrics.boundary import boundary_f1
from delineate.metrics.semantic import SemanticScores, semantic_scores

__all__ = ["SemanticScores", "boundary_f1", "semantic_scores"]
