"""Makes small mistakes in the code, drawn at random, and counts those that the tests notice.

    python .ci/mutants.py PART [--number 60]

Lines of messages are left out. A mistake that makes the tests too slow is noticed; processor time
counts, so a busy machine makes none. Prints each, then the share noticed with its 95 % Wilson
interval.
"""

import argparse
import os
import random
import re
import resource
import shutil
import signal
import time
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path

from mutmut.__main__ import create_mutants
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import (
    copy_also_copy_files,
    copy_src_dir,
    setup_source_paths,
    walk_mutatable_files,
)
from mutmut.utils.format_utils import mangled_name_from_mutant_name
from scipy.stats import binomtest

PARTS = {
    "numbers": (
        "data/composition data/mix data/splits evaluation/intervals evaluation/priors",
        "data/test_augmentation.py data/test_mix.py data/test_rarity.py data/test_splits.py "
        "evaluation/test_intervals.py evaluation/test_priors.py",
    ),
    "study": (
        "evaluation/calibration evaluation/comparison evaluation/corrected_counts "
        "evaluation/counting evaluation/particle_counts evaluation/repetitions",
        "evaluation/test_calibration.py evaluation/test_comparison.py "
        "evaluation/test_corrected_counts.py evaluation/test_counting.py "
        "evaluation/test_particle_counts.py evaluation/test_repetitions.py",
    ),
    "artifacts": ("runtime/artifacts", "runtime/test_artifacts.py runtime/test_distributed.py"),
    "importers": (
        "data/importers/labels data/importers/tables data/importers/window",
        "data/importers/test_flowcam_hostile.py data/importers/test_folder_tables.py "
        "data/importers/test_labels.py data/importers/test_parsers_fuzzed.py "
        "data/importers/test_summary.py data/importers/test_window.py",
    ),
    "instruments": (
        "data/importers/collage data/importers/flowcam data/importers/flowcam_facts "
        "data/importers/flowcam_lists data/importers/mfi data/importers/mfi_table",
        "data/importers/test_collage.py data/importers/test_flowcam.py "
        "data/importers/test_flowcam_facts.py data/importers/test_flowcam_hostile.py "
        "data/importers/test_flowcam_pictures.py data/importers/test_mfi.py "
        "data/importers/test_parsers_fuzzed.py",
    ),
}
"""Where a wrong number would not show: files of the package, and the tests that concern them."""
SENTENCE = re.compile(r'f?"[^"]* [^"]*"')
SEED = 1
WAIT = 20
"""Times its processor seconds that a try may last: some mistakes wait for ever."""


def main() -> None:
    """Draw, try and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--number", type=int, default=60, help="of mistakes")
    arguments = parser.parse_args()
    files, tests = PARTS[arguments.part]
    config().only_mutate = [f"svp_lightning/{file}.py" for file in files.split()]
    config().pytest_add_cli_args_test_selection = [f"tests/{one}" for one in tests.split()]
    names = _mutants()
    random.Random(SEED).shuffle(names)
    drawn = list(islice((name for name in names if not _of_message(name)), arguments.number))
    tests_of, seconds = _tests()
    noticed = sum(_noticed(name, tests_of, seconds) for name in drawn)
    low, high = binomtest(noticed, len(drawn)).proportion_ci(method="wilson")
    print(
        f"{arguments.part}: {noticed} of {len(drawn)} drawn from {len(names)} are noticed: "
        f"{noticed / len(drawn):.0%} [{low:.0%}, {high:.0%}]"
    )


def _mutants() -> list[str]:
    set_mutant_under_test("mutant_generation")
    shutil.rmtree("mutants", ignore_errors=True)  # of another part
    Path("mutants").mkdir()
    with redirect_stdout(None):
        copy_src_dir()
        copy_also_copy_files()
        setup_source_paths()
        create_mutants(1)
    names = []
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        names += data.exit_code_by_key
    return sorted(names)


def _changed(name: str, sign: str) -> str:
    lines = get_diff_for_mutant(name).splitlines()[2:]
    return "\n".join(line[1:].strip() for line in lines if line.startswith(sign))


def _of_message(name: str) -> bool:
    before, after = (SENTENCE.sub('""', _changed(name, sign)) for sign in "-+")
    return before == after


def _tests() -> tuple[dict[str, set[str]], dict[str, float]]:
    """Mutated function -> the tests that call it; test -> seconds."""
    set_mutant_under_test("stats")
    status = PytestRunner().run_stats(tests=[])
    assert status == 0, "the tests fail without a mistake"
    return state().tests_by_mangled_function_name, state().duration_by_test


def _noticed(name: str, tests_of: dict[str, set[str]], seconds: dict[str, float]) -> bool:
    tests = sorted(tests_of[mangled_name_from_mutant_name(name)], key=lambda test: seconds[test])
    status = _status(name, tests, 60 + 10 * sum(seconds[test] for test in tests)) if tests else 0
    why = "noticed" if status else "missed" if tests else "missed, no test calls it"
    why += ", too slow" if os.WIFSIGNALED(status) else ""
    print(f"{why}: {name}\n- {_changed(name, '-')}\n+ {_changed(name, '+')}", flush=True)
    return bool(status)


def _status(name: str, tests: list[str], limit: float) -> int:
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        set_mutant_under_test(name)
        status = 1
        try:
            status = PytestRunner().run_tests(mutant_name=name, tests=tests)
        finally:
            os._exit(status)
    end = time.monotonic() + WAIT * limit
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    return ended[1]


if __name__ == "__main__":
    main()
