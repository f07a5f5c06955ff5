"""The one training loop, and what all trained predictors share: settings, labels, seeds."""
