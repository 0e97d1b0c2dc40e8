"""The public mixtures: each is a prior of the weights and a prior of the components."""
