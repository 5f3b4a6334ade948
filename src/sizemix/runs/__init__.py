"""The folder of a run: what it holds, written and read in one place."""
