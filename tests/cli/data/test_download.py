from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from openvla_toolkit.downloads.published import published_names
from tests.downloads.host import Host, publish

Openvla = Callable[..., tuple[int, str, str]]


def test_a_data_set_is_fetched_and_can_be_looked_at(
    openvla: Openvla,
    host: Host,
    recorded: Path,
    tmp_path: Path,
) -> None:
    publish(host, recorded, "gresearch/robotics/toto/0.1.0")
    words = ["data", "download", "toto", "--to", str(tmp_path), "--workers", "1"]
    code, out, _ = openvla(*words, "--dry-run")
    assert code == 0
    assert "3 shards, 0.00 GB, 6 episodes of train, 0.00 GB still to be fetched" in out
    assert not list(tmp_path.iterdir())
    code, out, err = openvla(*words)
    assert code == 0
    assert "checksums agree" in out
    assert err.splitlines()[-1] == "fetched MB 0/0"
    command = out.partition("next: openvla ")[2].split()
    code, out, _ = openvla(*command, "--workers", "1")
    assert code == 0
    assert "toto 1.0.0 · rlds · split train" in out


def test_a_part_is_read_as_the_part_that_it_is(
    openvla: Openvla,
    host: Host,
    recorded: Path,
    tmp_path: Path,
) -> None:
    publish(host, recorded, "gresearch/robotics/toto/0.1.0")
    words = ["toto", "--to", str(tmp_path), "--shards", "1", "--workers", "1"]
    code, out, _ = openvla("data", "download", *words)
    assert code == 0
    assert "2 episodes of train (of 6)" in out
    assert f"openvla data inspect {tmp_path}/toto --read 'split=train[:2]'" in out
    read = ["--read", "split=train[:2]", "--workers", "1", "--json"]
    code, out, _ = openvla("data", "inspect", str(tmp_path / "toto"), *read)
    assert (code, json.loads(out)["episodes"]) == (0, 2)


def test_figures_as_json(openvla: Openvla, host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, "gresearch/robotics/toto/0.1.0")
    words = ["toto", "--to", str(tmp_path), "--dry-run", "--json"]
    code, out, _ = openvla("data", "download", *words)
    (figures,) = json.loads(out)
    assert code == 0
    assert figures["missing_bytes"] == figures["bytes"] > 0
    assert figures["episodes"] == figures["episodes_of"] == {"train": 6}


def test_without_a_name_it_says_what_there_is(openvla: Openvla) -> None:
    code, out, _ = openvla("data", "download")
    assert (code, out.split()) == (0, published_names())


def test_mistakes_are_one_line_and_exit_2(openvla: Openvla) -> None:
    for words, message in (
        (["toto"], "--to is needed"),
        (["tota", "--to", "x"], "Did you mean 'toto'?"),
        (["droid_wipe", "--to", "x"], "have not published it"),
    ):
        code, _, err = openvla("data", "download", *words)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err


def test_ctrl_c_ends_it_and_the_same_command_goes_on(host: Host, recorded: Path, tmp_path: Path) -> None:
    publish(host, recorded, "mirror/mine/1.0.0")
    slow = "/mirror/mine/1.0.0/dots-train.tfrecord-00001-of-00003"
    content = host.files[slow]
    host.faults[slow] = ["", "stall"]  # the first question is for its size
    words = ["mine", "--to", str(tmp_path), "--version", "1.0.0", "--workers", "2"]
    source = f"http://localhost:{host.server_port}/mirror"
    command = [sys.executable, "-m", "openvla_toolkit", "data", "download", *words, "--source", source]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert host.stalled.wait(60)
    folder = tmp_path / "mine" / "1.0.0"
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert (started.returncode, err.splitlines()[-1]) == (130, "interrupted.")
    assert not (folder / "dataset_info.json").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3 shards" in done.stdout
    assert (folder / Path(slow).name).read_bytes() == content


def test_a_name_that_is_not_known_is_one_line_with_the_nearest(openvla: Openvla, tmp_path: Path) -> None:
    code, _, err = openvla("data", "download", "kuka_x", "--to", str(tmp_path))
    assert code == 2
    assert err == (
        "error: no published data set is named 'kuka_x'. Did you mean 'kuka'? "
        "'openvla data download' without a name lists them.\n"
    )
