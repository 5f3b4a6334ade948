"""Which image size, how many images, at every step of a run: pure functions of explicit inputs."""
