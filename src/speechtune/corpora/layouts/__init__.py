"""One file for each corpus or table format: a module here with a `LAYOUT` is found."""
