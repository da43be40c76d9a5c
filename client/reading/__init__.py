"""What the model makes of a text, which model that is, and what many readings say together."""
