"""Training: tuples of images, the losses of the paper, and the tasks that learn from them."""
