"""Results as tables, CSV files and pictures."""
