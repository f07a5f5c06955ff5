"""What several predictors share."""
