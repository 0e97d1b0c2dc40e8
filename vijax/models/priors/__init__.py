"""Priors built from data or from hyper-parameters, for any model."""
