"""Priors on the labels of rows that are no independent draws: chains."""
