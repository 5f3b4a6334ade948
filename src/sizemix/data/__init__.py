"""From a plan's steps to batches of images of one size."""
