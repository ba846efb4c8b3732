"""Predictors: every observation becomes exactly one predictor_update, which says how wrong the prediction was."""
