"""What `sizemix doctor` looks at: findings about software, machine, images and network."""
