"""Loggers besides metrics.csv: what each is shown of a run, and how little of it a run depends on."""
