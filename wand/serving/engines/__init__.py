"""Who speaks the requests of a server: wand's own engine, or another program."""
