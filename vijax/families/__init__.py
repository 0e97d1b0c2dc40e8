"""Conjugate families, one per file: natural coordinates, and the likelihood of rows."""
