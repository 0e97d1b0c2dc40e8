"""How runs are driven: the loop, the pass over the rows, lanes, restarts, devices."""
