"""Whether to trust a q: corrected standard deviations, importance weights, and MCMC draws."""
