"""The methods: one algorithm per file."""
