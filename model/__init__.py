"""What is learned, and what travels. Imports nothing of ours."""
