"""`python -m speechtune`, and `torchrun --nproc_per_node N -m speechtune train ...`."""

from speechtune.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
