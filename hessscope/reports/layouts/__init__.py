"""Tables as they are read, each layout in one file."""
