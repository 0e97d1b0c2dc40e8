"""The number of components: criteria, and held-out rows."""
