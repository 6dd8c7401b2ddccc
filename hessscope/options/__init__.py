"""Options of every command, each defined once."""
