"""One file per conjugate family: its natural coordinates and the likelihood it is conjugate to."""
