"""Drivers and methods: they know the protocols and the algebra, and no model by name."""
