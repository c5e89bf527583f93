"""Run random cases for some minutes and count how they end: `python -m fuzz.run --seconds 600 --seed 0`.

Exit code 1 where a case ended in anything but a result or a refusal with one message. Each such case is kept, with its
log, in runs/fuzz/SEED-KIND-NUMBER; `--only KIND:NUMBER` with the same seed runs it again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}

from fuzz.case import Place  # noqa: E402
from fuzz.kinds import KINDS  # noqa: E402
from fuzz.process import Ended, Running  # noqa: E402

BAD = (
    *("tracebacks", "hangs", "growth over 2 GB", "files opened outside", "rows unaccounted for"),
    *("wrong results", "control characters", "refusals without a message", "broken cases"),
)


def main() -> int:
    args = _arguments()
    home = Path(tempfile.mkdtemp(prefix="speechtune-fuzz-"))
    os.environ["HF_HOME"] = str(home / "hf")  # before it is imported
    _import_everything()
    try:
        _build_material(home / "material")
        endings = _run_cases(args, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return _show_counts(endings, args.seed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="no case begins later; default: 600")
    parser.add_argument("--cases", type=int, default=10**9, help="of each kind at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--quick", action="store_true", help="leave out cases of more than a few seconds")
    parser.add_argument("--only", metavar="KIND[:NUMBER]", help=f"kinds: {', '.join(KINDS)}")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/fuzz"), help="keeps what was found")
    return parser.parse_args()


def _import_everything() -> None:
    """Import once what every case would import, before it forks."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import torch
    import transformers.models.wav2vec2.modeling_wav2vec2
    import transformers.models.whisper.modeling_whisper  # noqa: F401

    import speechtune.cli.main
    import speechtune.cli.plan
    import speechtune.decoding.transcribe
    import speechtune.doctor.doctor
    import speechtune.reporting.report
    import speechtune.training.build
    import speechtune.training.run
    import speechtune.training.trainer  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()  # imported objects are not garbage, and are not copied into the forks


def _build_material(folder: Path) -> None:
    from fuzz.material import build

    folder.mkdir()
    log = folder / "log.txt"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                os.environ["SPEECHTUNE_CACHE"] = str(folder / "cache")
                build(folder)
                code = 0
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"the undamaged material could not be made:\n{log.read_text()[-3000:]}")


def _run_cases(args: argparse.Namespace, home: Path) -> list[Ended]:
    """Take the kinds in turn until the time is up; show what is found at once."""
    only, _, number = (args.only or "").partition(":")
    kinds = [only] if only else list(KINDS)
    numbers = [int(number)] if number else count() if args.cases >= 10**9 else range(args.cases)
    waiting = ((kind, number) for number in numbers for kind in kinds)
    end_s = time.monotonic() + args.seconds
    running: list[Running] = []
    endings: list[Ended] = []
    while True:
        while len(running) < args.jobs and time.monotonic() < end_s and (case := next(waiting, None)):
            folder = home / "-".join(map(str, case)) / "case"
            place = Place(folder, folder.parent / "outside", home / "material", args.quick)
            running.append(Running(case[0], KINDS[case[0]], case[1], args.seed, place))
        if not running:
            return endings
        for one in list(running):
            if (ended := one.poll()) is not None:
                running.remove(one)
                endings.append(ended)
                _keep(ended, one.place.folder, args)
        time.sleep(0.01)


def _keep(ended: Ended, folder: Path, args: argparse.Namespace) -> None:
    if ended.findings or args.only:
        name = f"{args.seed}-{ended.kind}-{ended.number}"
        kept = args.output_dir / name
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for path in (folder / "commands.txt", folder / "log.txt"):
            if path.exists():
                shutil.copy(path, kept)
        row = {"findings": ended.findings, "code": ended.code, "seconds": ended.seconds, "growth": ended.growth_bytes}
        (kept / "finding.json").write_text(json.dumps(row, indent=1))
        for what, lines in ended.findings.items():
            print(f"{ended.kind}:{ended.number} {what}: {'; '.join(lines)} -> {kept}", flush=True)
    shutil.rmtree(folder.parent, ignore_errors=True)


def _show_counts(endings: list[Ended], seed: int) -> int:
    bad = Counter(what for ended in endings for what in ended.findings)
    good = [ended for ended in endings if not ended.findings]
    num_results = sum(ended.code == 0 for ended in good)
    kinds = Counter(ended.kind for ended in endings)
    print(f"seed {seed}: {len(endings)} cases: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items()))
    print(f"  {'results':<28}{num_results:>6}")
    print(f"  {'refusals with a message':<28}{len(good) - num_results:>6}")
    for what in BAD:
        print(f"  {what:<28}{bad[what]:>6}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
