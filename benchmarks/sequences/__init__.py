"""Hidden Markov models beside hmmlearn and dynamax: speed, float32, and the states found."""
