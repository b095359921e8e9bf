"""Pure loss functions on logits, probabilities or images."""
