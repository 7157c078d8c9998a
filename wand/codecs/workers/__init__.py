"""The module `serve`, which codec worker scripts import."""
