"""Gaussian components: four structures of the covariance, the likelihood and its kernels."""
