"""Numerical functions that know nothing of models: JAX arrays in, JAX arrays out."""
