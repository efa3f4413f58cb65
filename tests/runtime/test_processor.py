import pytest

from edgedf.runtime import processor
from edgedf.runtime.processor import Processor, int8_dot_product, this_processor

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


@pytest.mark.parametrize("info", CASES)
def test_dot_products_are_read_off_the_flags_of_all_cores(info: str) -> None:
    assert int8_dot_product(info) is CASES[info]


def test_the_processor_has_the_name_that_the_system_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nmodel name\t: AMD EPYC 7763\nflags : avx2\n")
    monkeypatch.setattr(processor, "_CPU_INFO", info)
    assert this_processor() == Processor("AMD EPYC 7763", False)


def test_a_system_without_cpuinfo_has_a_name_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(processor, "_CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(processor.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(processor.platform, "processor", lambda: "arm")
    assert this_processor() == Processor("arm", True)
