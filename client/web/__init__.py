"""The page: templates, what they load, and the thin routes that serve both from this package."""
