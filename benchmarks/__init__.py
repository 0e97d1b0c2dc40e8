"""Speed and memory of vijax beside its peers: `python -m benchmarks`."""
