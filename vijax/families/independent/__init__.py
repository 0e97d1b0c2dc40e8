"""Components with independent columns: counts, waiting times, flags and codes."""
