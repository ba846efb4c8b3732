"""Predictors: of every observation a predictor_update, which says how wrong the prediction was."""
