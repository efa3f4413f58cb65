from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgedf.errors import ConfigError, DeviceError
from edgedf.machine import Machine
from edgedf.runtime.profile.devices.adb import AdbDevice, Attached, adb_devices
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.wheels import MODULES
from edgedf.runtime.profile.events import (
    Block,
    Event,
    Failed,
    Finished,
    Loaded,
    Operators,
    PipelineTimes,
    Started,
    State,
    Summary,
    to_line,
)
from edgedf.runtime.profile.request import Effort
from tests.runtime.pictures import photographs, write
from tests.runtime.profile.devices.conftest import AddPhone
from tests.runtime.profile.devices.phone import Phone
from tests.runtime.tiny import write_tiny

HELP = "case $1 in --help) echo 'Flags: --num_runs --graph'; exit 1;; esac\n"
SAID = """\
count=5 first=900 curr=800 min=700 max=900 avg=800 std=10
count=40 first=500 curr=500 min=400 max=600 avg=500 std=20 p5=410 median=500 p95=590
Inference timings in us: Init: 5000, First inference: 900, Warmup (avg): 800, Inference (avg): 500
"""
EFFORT = Effort(queries=60, seconds=0.01, pipeline_queries=0, operator_queries=0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path, "tflite")


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{HELP}{body}")
    return path


@pytest.fixture
def canned(tmp_path: Path) -> Path:
    """A runner that is done at once."""
    return script(tmp_path / "benchmark_model", f"cat <<'END'\n{SAID}END\n")


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A runner that does not end by itself."""
    return script(tmp_path / "benchmark_model", "echo begun; sleep 300\n")


def job(*models: Path, effort: Effort = EFFORT, threads: tuple[int, ...] = (1,)) -> Job:
    return Job(models, (), threads, effort)


def of(kind: type, events: list[Event]) -> list:
    return [event for event in events if isinstance(event, kind)]


def assert_clean(phone: Phone, patience: float = 0.5) -> None:
    """No folder, no process; what has been killed may take a moment to go."""
    end = time.monotonic() + patience
    while (found := _left(phone)) and time.monotonic() < end:
        time.sleep(0.05)
    assert found == []


def _left(phone: Phone) -> list[str]:
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    running = [line for line in processes.stdout.splitlines() if str(phone.root) in line]
    return running + [path.name for path in phone.temporary.iterdir()]


class TestNativeBenchmark:
    def test_real_runs_take_turns(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        source = Path(__file__).with_name("benchmark_model.py").read_text()
        runner = tmp_path / "benchmark_model"
        runner.write_text(f"#!{sys.executable}\n{source}")
        effort = Effort(queries=8, seconds=0.0, pipeline_queries=0, operator_queries=2)
        events: list[Event] = []
        AdbDevice(runner=runner).run(job(model, effort=effort, threads=(1, 2)), events.append)
        machine = of(Started, events)[0].machine
        assert machine.name == "Example Loopback 1" and machine.soc == "LB1000"
        assert machine.system.startswith("Android 14 (API 34), kernel ")
        assert machine.governors == ("schedutil",) and machine.maximum_mhz == (1800.0, 2400.0)
        summaries = of(Summary, events)
        assert [summary.configuration for summary in summaries] == [0, 1] * 4
        for summary in summaries:
            assert summary.queries >= 2 and summary.source == "benchmark_model"
            assert summary.minimum_ms <= summary.p50_ms <= summary.p95_ms <= summary.maximum_ms
            assert summary.load_ms > 0 and summary.first_run_ms > 0 and summary.model_kib == 2304
        assert [event.runtime for event in of(Loaded, events)] == ["benchmark_model"] * 2
        states = of(State, events)
        assert len(states) == 9 and states[0].temperature_c == {"CPU": 31.5, "battery": 28.5}
        assert states[0].frequency_mhz == (1200.0, 1500.0) and states[0].throttled == 0
        assert all(state.other_load is not None for state in states[1:])
        operators = of(Operators, events)
        assert [o.configuration for o in operators] == [0, 1]
        assert operators[0].operators[0].delegate == "XNNPACK"
        assert operators[0].delegated == operators[0].in_file > 1 and operators[0].partitions == 1
        assert isinstance(events[-1], Finished) and not of(Failed, events)
        assert_clean(phone)

    def test_litert_benchmark_itself(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_litert.tools.benchmark_litert_model")
        runner = tmp_path / "litert-benchmark"  # what pip writes into bin
        runner.write_text(
            f"#!{sys.executable}\nfrom ai_edge_litert.tools.benchmark_litert_model import main\n"
            "main()\n"
        )
        effort = Effort(queries=3, seconds=0.0, pipeline_queries=1, operator_queries=1)
        events: list[Event] = []
        AdbDevice(phone.serial, runner=runner).run(job(model, effort=effort), events.append)
        summaries = of(Summary, events)
        assert len(summaries) == 4 and all(s.source == "litert-benchmark" for s in summaries)
        assert all(s.load_ms > 0 and s.p50_ms is not None for s in summaries)
        assert {failed.step for failed in of(Failed, events)} == {"pipeline", "operators"}
        assert_clean(phone)

    def test_goes_on_until_there_is_enough(self, phone: Phone, model: Path, canned: Path) -> None:
        events: list[Event] = []
        effort = Effort(queries=200, seconds=0.01, pipeline_queries=0, operator_queries=0)
        AdbDevice(runner=canned).run(job(model, effort=effort), events.append)
        assert sum(summary.queries for summary in of(Summary, events)) == 5 * 40

    def test_phones_at_the_same_time(self, add_phone: AddPhone, model: Path, canned: Path) -> None:
        phones = [add_phone(model="First"), add_phone(model="Second")]
        heard: dict[str, list[Event]] = {phone.serial: [] for phone in phones}
        devices = [AdbDevice(phone.serial, runner=canned) for phone in phones]
        threads = [
            threading.Thread(target=device.run, args=(job(model), heard[phone.serial].append))
            for device, phone in zip(devices, phones, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for phone in phones:
            events = heard[phone.serial]
            assert of(Started, events)[0].machine.name == f"Example {phone.model}"
            assert len(of(Summary, events)) == 4 and isinstance(events[-1], Finished)
            assert_clean(phone)

    def test_heat_is_told(self, phone: Phone, model: Path, canned: Path) -> None:
        def warm(command: str) -> None:
            if "--graph" in command:
                phone.heat(status=2, degrees=48.0)

        phone.trouble.on_command = warm
        events: list[Event] = []
        AdbDevice(runner=canned).run(job(model), events.append)
        states = of(State, events)
        assert [state.throttled for state in states] == [0, 1, 2, 3, 4]
        assert states[-1].temperature_c["CPU"] == 48.0

    def test_other_formats_are_left_out(
        self, phone: Phone, model: Path, canned: Path, tmp_path: Path
    ) -> None:
        onnx = write_tiny(tmp_path, "onnx")
        events: list[Event] = []
        AdbDevice(runner=canned).run(job(onnx, model), events.append)
        assert {summary.configuration for summary in of(Summary, events)} == {1}
        assert [failed.configuration for failed in of(Failed, events)] == [0]
        with pytest.raises(DeviceError, match="runs TFLite models"):
            AdbDevice(runner=canned).run(job(onnx), events.append)
        assert_clean(phone)


class TestPython:
    def test_worker_runs_there(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        picture = tmp_path / "it's one.jpg"
        write(picture, photographs()[0])
        effort = Effort(
            queries=4,
            seconds=0.01,
            warm_up_seconds=0.05,
            cold_starts=0,
            pipeline_queries=2,
            operator_queries=0,
        )
        events: list[Event] = []
        AdbDevice(python=sys.executable).run(Job((model,), (picture,), (1,), effort), events.append)
        machine = of(Started, events)[0].machine
        assert machine.name == "Example Loopback 1" and machine.python and machine.edgedf
        assert of(Block, events) and of(PipelineTimes, events)
        assert isinstance(events[-1], Finished) and not of(Failed, events)
        assert_clean(phone)

    def test_no_such_python(self, phone: Phone, model: Path) -> None:
        with pytest.raises(DeviceError, match=r"/no/python on the phone \S+ is not there"):
            AdbDevice(python="/no/python").run(job(model), lambda event: None)
        assert_clean(phone)

    def test_lost_while_it_runs(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        picture = write(tmp_path / "one.jpg", photographs()[0])
        line = to_line(Started(Machine(cpu="", architecture="", system="", python="3.11.0")))
        python = interpreter(tmp_path, f"echo '{line}'; sleep 300")
        phone.trouble.drop_at = "--until-stdin-closes"
        events: list[Event] = []
        with pytest.raises(DeviceError, match="lost while the worker ran on it"):
            AdbDevice(python=str(python)).run(Job((model,), (picture,)), events.append)
        assert of(Started, events)[0].machine.name == "Example Loopback 1"
        assert_clean(phone, patience=10)

    def test_ends_too_early(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        picture = write(tmp_path / "one.jpg", photographs()[0])
        python = interpreter(tmp_path, "echo 'no memory' >&2; exit 3")
        with pytest.raises(DeviceError, match=r"too early \(exit status 3\)") as raised:
            AdbDevice(python=str(python)).run(Job((model,), (picture,)), lambda event: None)
        assert "no memory" in raised.value.next_step
        assert_clean(phone)


def interpreter(folder: Path, worker: str) -> Path:
    """A Python that has all that is needed, but for a real worker."""
    has = {
        "implementation": "CPython",
        "version": [3, 11, 0],
        "abiflags": "",
        "architecture": "aarch64",
        "system": "Android",
        "modules": dict.fromkeys(MODULES, "99.0"),
        "libc": "",
        "libc_version": "",
        "folder": str(folder),
        "free": 1 << 40,
    }
    path = folder / "python"
    path.write_text(
        "#!/bin/sh\ncase $1 in\n"
        f"probe.py) echo; echo @@answer; echo '{json.dumps(has)}';;\n"
        """unpack.py) mkdir tmp; echo; echo @@answer; echo '{"kind": "", "problem": ""}';;\n"""
        f"*) {worker};;\nesac\n"
    )
    path.chmod(0o755)
    return path


class TestLostConnection:
    def test_phone_comes_back(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        flag = shlex.quote(str(tmp_path / "second"))
        runner = script(
            tmp_path / "benchmark_model",
            f"[ -e {flag} ] && {{ echo begun; sleep 300; }}\n: >{flag}\ncat <<'END'\n{SAID}END\n",
        )
        events: list[Event] = []

        def emit(event: Event) -> None:
            events.append(event)
            if isinstance(event, Summary):
                phone.trouble.drop_at = "--graph"

        with pytest.raises(DeviceError, match="was lost while benchmark_model ran on it") as raised:
            AdbDevice(runner=runner).run(job(model), emit)
        assert "nothing is left on it" in raised.value.message
        assert len(of(Summary, events)) == 1 and not of(Finished, events)
        assert_clean(phone)

    def test_phone_stays_away(
        self, phone: Phone, model: Path, endless: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgedf.runtime.profile.devices.adb_folder._WAIT_FOR_PHONE", 0.5)
        phone.trouble.drop_at, phone.trouble.stay_away = "--graph", True
        with pytest.raises(DeviceError) as raised:
            AdbDevice(runner=endless).run(job(model), lambda event: None)
        assert "could not be seen to go" in raised.value.message
        assert "shell rm -rf /data/local/tmp/edgedf-" in raised.value.next_step
        assert_clean(phone, patience=10)


class TestInterrupted:
    def test_while_the_benchmark_runs(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        stubborn = script(tmp_path / "benchmark_model", "trap '' TERM\nsleep 300; sleep 300\n")
        main = threading.get_ident()

        def interrupt(command: str) -> None:
            if "--graph" in command:
                threading.Timer(0.2, _interrupt, [main]).start()

        phone.trouble.on_command = interrupt
        with pytest.raises(KeyboardInterrupt):
            AdbDevice(runner=stubborn).run(job(model), lambda event: None)
        assert_clean(phone)

    def test_by_whoever_takes_the_events(self, phone: Phone, model: Path, canned: Path) -> None:
        def stop(event: Event) -> None:
            if isinstance(event, Summary):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            AdbDevice(runner=canned).run(job(model), stop)
        assert_clean(phone)

    def test_this_program_is_killed(
        self, phone: Phone, model: Path, endless: Path, tmp_path: Path
    ) -> None:
        text = (
            "import sys; from pathlib import Path\n"
            "from edgedf.runtime.profile.devices.adb import AdbDevice\n"
            "from edgedf.runtime.profile.devices.base import Job\n"
            "job = Job((Path(sys.argv[1]),), ())\n"
            "AdbDevice(runner=Path(sys.argv[2])).run(job, lambda event: None)\n"
        )
        started = threading.Event()
        phone.trouble.on_command = lambda command: "--graph" in command and started.set()
        process = subprocess.Popen([sys.executable, "-c", text, str(model), str(endless)])
        assert started.wait(20)
        process.kill()
        process.wait()
        assert_clean(phone, patience=10)


def _interrupt(thread: int) -> None:
    import signal

    signal.pthread_kill(thread, signal.SIGINT)


class TestRunnerFails:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("echo segfault; kill -SEGV $$", "was ended by SIGSEGV; its last words: 'segfault"),
            ("kill -KILL $$", "was ended by SIGKILL"),
            ("echo 'Failed to load'; exit 1", "ended with status 1; its last words: 'Failed to"),
            ("echo hello", "is not understood .* It ended with: 'hello'"),
            (
                f"echo 'Unconsumed cmdline flags: --num_threads=1'; cat <<'END'\n{SAID}END",
                "does not know --num_threads",
            ),
        ],
    )
    def test_in_the_middle(
        self, phone: Phone, model: Path, tmp_path: Path, body: str, message: str
    ) -> None:
        events: list[Event] = []
        runner = script(tmp_path / "benchmark_model", f"{body}\n")
        with pytest.raises(DeviceError, match=message):
            AdbDevice(runner=runner).run(job(model), events.append)
        assert [failed.configuration for failed in of(Failed, events)] == [0]
        assert_clean(phone)

    def test_one_of_two(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        body = f"case \"$*\" in *num_threads=2*) exit 3;; esac\ncat <<'END'\n{SAID}END\n"
        events: list[Event] = []
        AdbDevice(runner=script(tmp_path / "benchmark_model", body)).run(
            job(model, threads=(1, 2)), events.append
        )
        assert [summary.configuration for summary in of(Summary, events)] == [0, 0, 0, 0]
        assert [failed.configuration for failed in of(Failed, events)] == [1]
        assert isinstance(events[-1], Finished)

    def test_no_benchmark(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        runner = tmp_path / "true"
        runner.write_text("#!/bin/sh\necho usage: none\n")
        with pytest.raises(DeviceError, match="no benchmark that is understood"):
            AdbDevice(runner=runner).run(job(model), lambda event: None)
        runner.write_text("#!/no/such/shell\n")
        with pytest.raises(DeviceError, match="cannot run true"):
            AdbDevice(runner=runner).run(job(model), lambda event: None)
        assert_clean(phone)

    def test_endless_output(
        self, phone: Phone, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgedf.runtime.profile.devices.adb_client._MOST_OUTPUT", 1 << 20)
        with pytest.raises(DeviceError, match="more than 1 MiB"):
            AdbDevice(runner=script(tmp_path / "benchmark_model", "yes\n")).run(
                job(model), lambda event: None
            )
        assert_clean(phone)

    def test_never_done(
        self, phone: Phone, model: Path, endless: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edgedf.runtime.profile.devices.adb_native._LONGEST", 0.3)
        with pytest.raises(DeviceError, match=r"within 0\.3 s"):
            AdbDevice(runner=endless).run(job(model), lambda event: None)
        assert_clean(phone)

    def test_another_processor(self, phone: Phone, model: Path, tmp_path: Path) -> None:
        runner = tmp_path / "benchmark_model"
        shutil.copy(os.path.realpath("/bin/sh"), runner)  # ELF for this machine
        with pytest.raises(DeviceError, match=r"is built for \S+; the phone runs arm64-v8a, arm"):
            AdbDevice(runner=runner).run(job(model), lambda event: None)
        assert_clean(phone)


class TestCannotBeUsed:
    def test_full(self, phone: Phone, model: Path, canned: Path) -> None:
        phone.trouble.full_after = 100
        with pytest.raises(DeviceError, match=r"is full: .* MB, and has .* MB free"):
            AdbDevice(runner=canned).run(job(model), lambda event: None)
        assert_clean(phone)

    def test_folder_cannot_be_made(self, phone: Phone, model: Path, canned: Path) -> None:
        phone.temporary.rmdir()
        with pytest.raises(DeviceError, match="No folder could be made"):
            AdbDevice(runner=canned).run(job(model), lambda event: None)

    def test_unauthorized(self, add_phone: AddPhone, model: Path, canned: Path) -> None:
        phone = add_phone(unauthorized=True)
        with pytest.raises(DeviceError, match="is unauthorized") as raised:
            AdbDevice(runner=canned).run(job(model), lambda event: None)
        assert "confirm the question" in raised.value.next_step
        assert adb_devices() == (Attached(phone.serial, "unauthorized"),)

    def test_offline(self, phone: Phone, model: Path, canned: Path) -> None:
        phone.close()
        with pytest.raises(DeviceError, match=r"offline|knows no phone"):
            AdbDevice(phone.serial, runner=canned).run(job(model), lambda event: None)

    def test_several_or_none(self, add_phone: AddPhone, model: Path, canned: Path) -> None:
        with pytest.raises(DeviceError, match=r"adb knows no phone\."):
            AdbDevice(runner=canned).run(job(model), lambda event: None)
        first, second = add_phone(), add_phone()
        with pytest.raises(DeviceError, match="2 phones are attached") as raised:
            AdbDevice(runner=canned).run(job(model), lambda event: None)
        assert first.serial in raised.value.message and second.serial in raised.value.message
        with pytest.raises(DeviceError, match="knows no phone other; attached: "):
            AdbDevice("other", runner=canned).run(job(model), lambda event: None)

    def test_no_client(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, canned: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(DeviceError, match="no adb on this machine") as raised:
            AdbDevice(runner=canned).run(job(), lambda event: None)
        assert "apt install adb" in raised.value.next_step

    def test_nothing_to_measure_with(self) -> None:
        with pytest.raises(ConfigError, match="needs something to measure with"):
            AdbDevice()
