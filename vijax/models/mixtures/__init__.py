"""The public mixtures: a prior on the weights beside a prior of components each."""
