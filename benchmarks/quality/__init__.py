"""How good the fits are: `python -m benchmarks.quality` writes benchmarks/quality.md."""
