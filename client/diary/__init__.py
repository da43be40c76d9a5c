"""What the person wrote: entries, encrypted, and the ways they come in and go out."""
