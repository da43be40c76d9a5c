"""One person's device. Imports ``privacy`` and ``model``; never the server."""
