"""Models of one's own: named factors, and an energy of their expected statistics."""
