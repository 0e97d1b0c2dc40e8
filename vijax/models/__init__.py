"""Models: each has a prior, a starting point and an E-step."""
