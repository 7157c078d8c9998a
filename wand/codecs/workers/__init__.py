"""What a codec worker script imports: `serve`."""
