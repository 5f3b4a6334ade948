"""A run's network as files that need no sizemix: a file here for each format, and what the formats share."""
