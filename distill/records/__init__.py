"""What training reads instead of pictures: targets, prepared once, and batches of them."""
