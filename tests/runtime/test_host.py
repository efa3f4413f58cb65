import platform

import edgedf
from edgedf.runtime.host import this_host


def test_a_host_is_named() -> None:
    found = this_host()
    assert found.cpu
    assert found.system == platform.platform()
    assert found.python == platform.python_version()
    assert found.edgedf == edgedf.__version__
    assert found.cores is None or found.cores > 0
