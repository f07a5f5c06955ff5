"""The one training loop, and what every trained predictor shares: settings, labels, seeds."""
