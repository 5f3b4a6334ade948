"""The Lightning module, its optimizer, and how a run is put together and carried out."""
