"""Progress, tables of scores, and text made safe to print."""
