import platform
from pathlib import Path

import pytest

import edgedf
from edgedf import machine
from edgedf.machine import (
    Processor,
    available_cores,
    int8_dot_product,
    number_in,
    text_in,
    this_host,
    this_machine,
    this_processor,
)

CASES = {
    "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni\n": True,
    "flags\t\t: fpu avx2 avx_vnni\n\nflags\t\t: fpu avx2 avx_vnni\n": True,
    "flags\t\t: fpu avx2 avx512f\n": False,
    "Features\t: fp asimd crc32 asimddp\n": True,
    "Features\t: fp asimd asimddp\n\nFeatures\t: fp asimd\n": False,
    "Features\t: half thumb neon vfpv4\n": False,
    "Hardware\t: BCM2835\n": None,
    "": None,
}


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("info", CASES)
def test_dot_products_are_read_off_the_flags_of_all_cores(info: str) -> None:
    assert int8_dot_product(info) is CASES[info]


def test_the_processor_has_the_name_that_the_system_gives(tmp_path: Path) -> None:
    text = "processor : 0\nmodel name\t: AMD EPYC 7763\nflags : avx2\n"
    lay(tmp_path, {"proc/cpuinfo": text})
    assert this_processor(tmp_path) == Processor("AMD EPYC 7763", False)


def test_a_system_without_cpuinfo_has_a_name_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    assert this_processor(tmp_path) == Processor("arm", True)


def test_a_host_is_named() -> None:
    found = this_host()
    assert found.cpu
    assert found.system == platform.platform()
    assert found.python == platform.python_version()
    assert found.edgedf == edgedf.__version__
    assert found.cores is None or found.cores > 0


def test_this_machine_is_described() -> None:
    found = this_machine()
    assert found.cpu
    assert found.architecture
    assert found.cores == available_cores()
    assert found.edgedf == edgedf.__version__


def test_a_machine_that_says_nothing_is_still_described(tmp_path: Path) -> None:
    found = this_machine(tmp_path)
    assert found.cpu
    assert (found.name, found.soc, found.memory_mb) == ("", "", None)
    assert (found.governors, found.maximum_mhz) == ((), ())


def test_a_board_says_what_it_is(tmp_path: Path) -> None:
    processor = "processor\t: {}\nCPU implementer\t: 0x41\nCPU part\t: {}\n"
    parts = ["0xd0b", "0xd0b", "0xd05", "0xfff"]
    files = {
        "proc/cpuinfo": "\n".join(processor.format(n, part) for n, part in enumerate(parts))
        + "\nprocessor\t: 4\nCPU implementer\t: 0x51\nCPU part\t: 0xd0b\n",
        "proc/meminfo": "MemTotal:        4046848 kB\nMemFree: 1 kB\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
    }
    for cpu in range(2):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        files[f"{folder}/cpuinfo_max_freq"] = "2400000\n"
        files[f"{folder}/scaling_governor"] = "ondemand\n"
    found = this_machine(lay(tmp_path, files))
    assert found.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.soc == "bcm2712"
    assert found.cpu == "2 × Cortex-A76, 1 × Cortex-A55, 1 × part 0xfff, 1 × 0x51/0xd0b"
    assert found.memory_mb == 3952
    assert found.governors == ("ondemand",)
    assert found.maximum_mhz == (2400.0, 2400.0)


@pytest.mark.parametrize(
    ("text", "number"), [("12\n", 12), ("0x50000", 0x50000), ("", None), ("many", None)]
)
def test_numbers_in_files(tmp_path: Path, text: str, number: int | None) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert number_in(path) == number
    assert number_in(tmp_path) is None
    assert text_in(tmp_path / "none") == ""
