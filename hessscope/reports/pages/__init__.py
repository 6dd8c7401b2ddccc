"""HTML pages of a record or of a study."""
