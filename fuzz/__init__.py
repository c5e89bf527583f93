"""Random damage against the real commands: `make fuzz`, or `python -m fuzz.run --help`.

run.py        the loop and its counts
process.py    one case in a forked process: time, memory, exit code
watch.py      which files a case opens outside its own folders
material.py   the undamaged corpus and models that cases start from
mutate.py     damaged bytes and damaged JSON
kinds/        what is damaged: one file for each kind of case
"""
