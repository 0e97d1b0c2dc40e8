"""Small posteriors with reference draws, and the peers that approximate them."""
