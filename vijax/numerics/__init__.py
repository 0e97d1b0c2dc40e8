"""Numerical pieces that know nothing of models: JAX in, JAX out."""
