"""Components whose columns are independent: counts, waiting times, flags, codes."""
