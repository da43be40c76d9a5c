"""Songs, what one person likes in which mood, and playlists."""
