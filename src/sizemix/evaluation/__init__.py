"""How accurate a trained network is at each image size."""
