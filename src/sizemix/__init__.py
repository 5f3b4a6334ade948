"""sizemix trains one image classifier for many image sizes, and measures what that buys."""

__version__ = "0.1.0"
