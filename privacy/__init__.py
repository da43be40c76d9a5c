"""What each protection promises, and what was spent. Imports ``model`` only."""
