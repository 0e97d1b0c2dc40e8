"""Priors on the weights of components."""
