"""Checkpoints that are whole or not there, and when they are written."""
