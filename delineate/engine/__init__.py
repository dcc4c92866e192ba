"""Fit, evaluate and predict: one LightningModule a task, one Predictor."""
