"""Models: a prior, a starting point and a local step each."""
