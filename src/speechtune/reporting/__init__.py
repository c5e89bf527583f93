"""report.html and the model card, from the files of an output folder."""
