"""Sweeps of a tiny program: order, failures, exact overrides, flags, return values."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest


def test_cells_run_one_after_the_other_under_their_headers(app: Any) -> None:
    done = app.run("-m", "number=3,1,2", "value=x")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "finished in" not in line] == [
        *("[1/3] number=3", "this is cell 3"),
        *("[2/3] number=1", "this is cell 1"),
        *("[3/3] number=2", "this is cell 2"),
        "3 finished.",
    ]
    records = app.records()
    assert records[3]["ended"] < records[1]["started"]
    assert records[1]["ended"] < records[2]["started"]
    assert [records[n]["environment"]["SVP_SWEEP_CELL"] for n in (3, 1, 2)] == ["1/3", "2/3", "3/3"]


def test_broken_cells_stop_no_other_and_fail_the_sweep_without_a_second_traceback(app: Any) -> None:
    done = app.run("-m", "number=1,2,3", "fail_at=1", "killed_at=2")
    assert done.returncode == 1
    assert sorted(app.records()) == [3]
    assert done.stderr.count("Traceback") == 1  # the cell's own
    assert done.stderr.endswith(
        "1 finished, 2 failed:\n  [1/3] number=1: exit status 1\n"
        "  [2/3] number=2: killed by SIGKILL (often: out of memory)\n"
    )
    assert done.stdout.index("[1/3] number=1 FAILED") < done.stdout.index("[2/3] number=2")


def test_stop_on_failure_starts_no_further_cell(app: Any) -> None:
    done = app.run("-m", "number=1,2,3", "fail_at=2", "hydra.launcher.stop_on_failure=true")
    assert done.returncode == 1
    assert sorted(app.started()) == [1, 2]
    assert "1 finished, 1 failed, 1 not started:" in done.stderr


TASK = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "1",
        "SLURM_NTASKS_PER_NODE": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"}  # fmt: skip
"""As srun sets them for the second of four tasks."""


VALUES = {
    "'a b, c'": "a b, c",
    '"it\'s"': "it's",
    "'say \"hi\"'": 'say "hi"',
    "'\\'both\\' \"kinds\" = $HOME; `ls` \\\\ *'": "'both' \"kinds\" = $HOME; `ls` \\\\ *",
    "[1,'2, 3',{x: 'y z'}]": [1, "2, 3", {"x": "y z"}],
    "{lr: 1e-4, steps: [1, 2]}": {"lr": 1e-4, "steps": [1, 2]},
    "''": "",
    "null": None,
    "'null'": "null",
    "'µm'": "µm",
}


def test_overrides_reach_the_cell_exactly(app: Any) -> None:
    fixed = [f"+fixed{index}={text}" for index, text in enumerate(VALUES)]
    swept = ",".join(VALUES)
    done = app.run("-m", f"value={swept}", "number=5", *fixed, "hydra.launcher.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("app") == len(VALUES)

    chosen = ["'a b, c'", "[1,'2, 3',{x: 'y z'}]"]
    done = app.run("-m", f"value={','.join(chosen)}", "number=5", *fixed)
    assert done.returncode == 0, done.stderr
    config = app.records()[5]["config"]
    assert config["value"] == VALUES[chosen[-1]]
    assert [config[f"fixed{index}"] for index in range(len(VALUES))] == list(VALUES.values())


def test_what_the_sweep_itself_reads_is_shared_with_its_cells(app: Any) -> None:
    main = app.folder / "app" / "__main__.py"
    main.write_text(
        "def needs(cells):\n"
        "    Path('asked').write_text(os.environ['SVP_SWEEP_MEMORY'])\n" + main.read_text()
    )
    done = app.run("-m", "number=1,2", "hydra.launcher.parallel=auto")
    assert done.returncode == 0, done.stderr
    memory = (app.folder / "asked").read_text()
    assert [record["memory"][0] for record in app.records().values()] == [memory, memory]
    assert not Path(memory).exists()


@pytest.mark.parametrize("folder", ["/dev/null/below", "n" * 300, "/proc"])
def test_a_sweep_whose_folder_cannot_be_written(app: Any, folder: str) -> None:
    done = app.run("-m", "number=1,2", f"hydra.sweep.dir={folder}")
    assert done.returncode == 1
    assert f"{folder} cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert app.started() == {}


def test_dry_run_prints_commands_that_a_shell_runs_to_the_same_effect(app: Any) -> None:
    done = app.run("-m", "number=1,2", "value='a, \"b\"'", "hydra.launcher.dry_run=true")
    assert done.returncode == 0
    assert app.records() == {}
    lines = done.stdout.splitlines()
    assert lines[::2] == ["# [1/2] number=1", "# [2/2] number=2"]
    assert all(shlex.split(line)[-1] == "hydra.mode=RUN" for line in lines[1::2])
    subprocess.run(["sh", "-ec", done.stdout], cwd=app.folder, env=app.environment(), check=True)
    assert {n: r["config"]["value"] for n, r in app.records().items()} == dict.fromkeys(
        (1, 2), 'a, "b"'
    )


def test_config_flags_and_hydra_overrides_reach_the_cells_but_not_the_sweeps_own(app: Any) -> None:
    extra = app.folder / "my configs"
    extra.mkdir()
    (extra / "other.yaml").write_text(
        "defaults: [config, _self_]\nvalue: of other\n"
        "hydra: {mode: MULTIRUN, sweeper: {params: {number: '7,8'}}}\n"
    )
    flags = ("--config-dir", "my configs", "-cn", "other")
    hydra = ("hydra.sweep.dir=out2", "hydra/launcher=process", "hydra.launcher.parallel=2")
    done = app.run(*flags, *hydra, "hydra.job.name=named")
    assert done.returncode == 0, done.stderr
    assert {n: r["config"]["value"] for n, r in app.records().items()} == {
        7: "of other",
        8: "of other",
    }
    logs = [app.log(number, "out2") for number in (1, 2)]
    assert sorted((app.folder / "out2" / "logs").iterdir()) == logs
    command = logs[0].read_text().splitlines()[0]
    assert shlex.split(command)[4:] == [
        *("--config-name", "other", "--config-dir", "my configs"),
        *("number=7", "hydra.job.name=named", "hydra.mode=RUN"),
    ]


@pytest.mark.parametrize("changed", [{"SLURM_NTASKS": "1"}, {"SLURM_STEP_ID": None}])
def test_cells_do_not_take_the_task_that_runs_the_sweep_for_their_own(
    app: Any, changed: dict[str, str | None]
) -> None:
    """A task of ``srun`` that is alone, or a script of ``sbatch``."""
    task = {k: v for k, v in (TASK | changed).items() if v is not None}
    done = app.run("-m", "number=1", **task)
    assert done.returncode == 0, done.stderr
    inherited = app.records()[1]["environment"]
    assert {name for name in inherited if name.startswith("SLURM")} == {"SLURM_JOB_ID"}


def test_a_script_is_started_again_as_a_script(app: Any) -> None:
    (app.folder / "app" / "__main__.py").rename(app.folder / "app" / "run it.py")
    done = app.run("-m", "number=1,2", program=("app/run it.py",))
    assert done.returncode == 0, done.stderr
    assert sorted(app.records()) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ((), {"LOCAL_RANK": "1"}, "distributed job (LOCAL_RANK=1)"),
        ((), TASK, "started by srun as 4 tasks"),
        (("hydra.launcher.cell_gb=0",), {}, "hydra.launcher.cell_gb=0 is no memory"),
        (("hydra.launcher.parallel=0",), {}, "hydra.launcher.parallel=0 starts no cell."),
    ],
)
def test_what_cannot_run_is_refused_in_one_sentence(
    app: Any, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = app.run("-m", "number=1,2", *arguments, **environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert app.started() == {}


def test_objectives_become_return_values_and_a_failure_leaves_the_sweeper_in_charge(
    app: Any, sweeper_plugin: Any
) -> None:
    sweeper_plugin("""
first = self.launcher.launch([["number=1", "objective=0.25"], ["number=2", "fail_at=2"]], 0)
second = self.launcher.launch([["number=3"], ["number=4", "objective=many"]], 2)
for job in [*first, *second]:
    try:
        print("RETURNED", job.overrides[0], job.return_value)
    except Exception as error:
        print("RAISED", error)
""")
    done = app.run("-m", "hydra/sweeper=stub")
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if re.match("RETURNED|RAISED", line)]
    assert printed[:3] == [
        "RETURNED number=1 0.25",
        "RAISED [2/2] number=2 fail_at=2: exit status 1.",
        "RETURNED number=3 None",
    ]
    assert printed[3].startswith('RAISED [4/4] number=4 objective=many: wrote no {"objective":')
    assert app.records()[3]["environment"]["SVP_SWEEP_CELL"] == "3/4"


def test_optuna_searches_over_processes(app: Any) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    config = app.folder / "app" / "conf" / "config.yaml"
    config.write_text(config.read_text().replace("objective: null", "objective: ${number}"))
    done = app.run(
        *("-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "number=range(1,9)"),
        *("hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2"),
        *("hydra.launcher.parallel=2", "fail_at=1", "hydra.sweeper.max_failure_rate=1"),
    )
    assert done.returncode == 0, done.stderr
    best = (app.folder / "out" / "optimization_results.yaml").read_text()
    assert f"best_value: {min(app.records())}.0" in best
    assert 1 in app.started()  # one trial failed and the search continued


def test_starting_hydra_with_the_plugin_imports_nothing_heavy(app: Any) -> None:
    code = (
        "import sys; from hydra.core.plugins import Plugins; from hydra.plugins.launcher import "
        "Launcher; names = [p.__name__ for p in Plugins.instance().discover(Launcher)]; "
        "heavy = {'torch', 'rich', 'pandas', 'numpy', 'pydantic'} & set(sys.modules); "
        "print(names, sorted(heavy))"
    )
    done = app.run(program=("-c", code))
    assert "'ProcessLauncher'" in done.stdout
    assert done.stdout.rstrip().endswith("[]"), done.stdout
