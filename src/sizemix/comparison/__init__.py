"""Finished runs side by side: which arm is better where, at what cost, and how sure that is."""
