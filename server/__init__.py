"""Averages what it may see, publishes what it learned. Imports ``privacy`` and ``model``; never the client."""
