"""Tables of records as pandas data frames."""
