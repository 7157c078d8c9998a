"""The script of the codec worker. Its folder holds nothing else, because Python puts that folder first on the path."""
