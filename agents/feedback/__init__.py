"""Makes rewards of what users think of frames."""
