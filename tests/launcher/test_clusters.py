"""Cells as SLURM jobs, in submitit's local mode, and as Ray tasks."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.svp_process_launcher._cells import Cell
from hydra_plugins.svp_process_launcher._engines import Job
from tests.launcher.test_stopping import alive, wait_until

SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=1")
LOCAL = (*SLURM, "hydra.launcher.cluster=local")
RAY = ("-m", "hydra/launcher=ray", "hydra.launcher.num_cpus=1", "hydra.launcher.num_gpus=0")
OBJECTIVES = """
for job in self.launcher.launch([["number=1", "objective=0.25"], ["number=2", "fail_at=2"]], 0):
    print("RETURNED", job.overrides[0], job._return_value)
"""


def check_memory(app: Any, *launcher: str) -> None:
    """All cells have one folder, on the disk that all machines see; then it is gone."""
    done = app.run(*launcher, "number=1,2")
    assert done.returncode == 0, done.stderr
    found = [Path(record["memory"][0]) for record in app.records().values()]
    assert len(found) == 2
    assert found[0] == found[1]
    assert found[0].parent == app.folder / "out" / "logs"
    # Whichever cell comes second sees what the first has noted.
    assert max(len(record["memory"][1]) for record in app.records().values()) == 2
    assert not found[0].exists()


def check_cells(app: Any, sweeper_plugin: Any, *launcher: str) -> None:
    """A cell that finishes and one that fails: logs, reports and returned objectives."""
    sweeper_plugin(OBJECTIVES)
    done = app.run(*launcher, "hydra/sweeper=stub")
    assert done.returncode == 0, done.stderr
    assert "RETURNED number=1 0.25" in done.stdout
    assert "RETURNED number=2 [2/2] number=2 fail_at=2: exit status 1." in done.stdout
    assert "  | RuntimeError: cell 2 is broken" in done.stdout
    assert "1 finished, 1 failed:" in done.stderr
    assert app.records()[1]["environment"]["SVP_SWEEP_CELL"] == "1/2"
    for number in (1, 2):
        assert f"this is cell {number}\n" in app.log(number).read_text()


def test_slurm_jobs_report_as_cells_of_this_machine_do(app: Any, sweeper_plugin: Any) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    check_cells(app, sweeper_plugin, *LOCAL)


def test_slurm_jobs_of_a_sweep_share_what_they_have_read(app: Any) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    check_memory(app, *LOCAL)


def test_a_preempted_job_is_queued_again_and_runs_to_its_end(app: Any) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    sweep = app.start(*LOCAL, "number=1", "sleep=3")
    assert wait_until(lambda: bool(app.started()))
    cell, _ = app.started()[1]
    job = int(Path(f"/proc/{cell}/stat").read_text().rpartition(")")[2].split()[1])
    for process in (cell, job):  # SLURM warns all processes of a job
        os.kill(process, signal.SIGUSR2)
    assert wait_until(lambda: not alive(cell))
    said, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, errors
    assert "1 finished." in said
    assert app.log(1).read_text().count("this is cell 1\n") == 2
    assert app.started()[1][0] != cell


def test_a_dry_run_prints_the_job_script(app: Any) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    settings = ("hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=90")
    more = ("+hydra.launcher.constraint=a100", "+hydra.launcher.additional_parameters.nice=9")
    done = app.run(*SLURM, "number=1,2", *settings, *more, "hydra.launcher.dry_run=true")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "# [1/2] number=1"
    assert {
        *("#SBATCH --array=0-1%2", "#SBATCH --partition=gpu", "#SBATCH --time=90"),
        *(
            "#SBATCH --constraint=a100",
            "#SBATCH --nice=9",
            "#SBATCH --signal=USR2@120",
            "#SBATCH --gpus-per-node=1",
        ),
    } <= set(lines)
    assert not any(line.startswith("#SBATCH --qos") for line in lines)
    assert any(line.startswith("srun ") and "--kill-on-bad-exit=1" in line for line in lines)
    assert not (app.folder / "out" / "logs").exists()


def test_without_slurm_the_refusal_names_the_way_out(app: Any) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    done = app.run(*SLURM, "number=1,2", PATH="/usr/bin/nowhere")
    assert done.returncode == 1
    assert "hydra.launcher.cluster=local" in done.stderr
    assert "?." not in done.stderr
    assert "Traceback" not in done.stderr


def test_tasks_that_submitit_gives_no_ranks_are_refused(app: Any) -> None:
    done = app.run(*LOCAL, "number=1", "hydra.launcher.gpus_per_node=2")
    assert done.returncode == 1
    assert "hydra.launcher.tasks_per_node=2" in done.stderr
    assert "Traceback" not in done.stderr
    assert app.started() == {}


def test_ray_tasks_report_as_cells_of_this_machine_do(app: Any, sweeper_plugin: Any) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    check_cells(app, sweeper_plugin, *RAY)


def test_ray_tasks_of_a_sweep_share_what_they_have_read(app: Any) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    check_memory(app, *RAY)


@pytest.mark.parametrize("is_task", [True, False])
def test_ranks_are_those_of_slurms_own_tasks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_task: bool
) -> None:
    """Workers of Ray that ``srun`` has started inherit ranks that are no cell's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_PROCID", "1")
    log, rank = tmp_path / "001.log", tmp_path / "rank"
    command = ["sh", "-c", f'echo said; echo "rank $SLURM_PROCID" > {rank}']
    Job(Cell("a", "1/1", [], command, log), str(tmp_path), str(tmp_path), is_task)()
    assert rank.read_text() == ("rank 1\n" if is_task else "rank \n")
    assert log.exists() != is_task  # it is that of rank 0


def test_a_signal_ends_ray_tasks(app: Any) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    sweep = app.start(*RAY, "number=1", "endless=true", "helper=true")
    assert wait_until(lambda: bool(app.started()), 60)
    pids = app.started()[1]
    sweep.send_signal(signal.SIGTERM)
    _, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signal.SIGTERM, errors
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


def test_rays_settings_compose_where_it_is_not_installed(app: Any) -> None:
    done = app.run(*RAY, "number=1,2", "hydra.launcher.dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[::2] == ["# [1/2] number=1", "# [2/2] number=2"]
