"""Gaussian components: four covariance structures, their likelihood and its kernels."""
