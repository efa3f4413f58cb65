"""The outputs are laid out as in TensorFlow's README, issues and sources, with other numbers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.native_operators import operators_in, parse_operators
from edgedf.runtime.profile.devices.native_runner import (
    Work,
    arguments,
    kind_of,
    parse_summary,
    unheeded,
)
from edgedf.runtime.profile.events import Operators, Summary
from tests.runtime.tiny import bare_tflite

OLDEST = """\
STARTING!
Num threads: [4]
Initialized session in 9.5ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds
count=7 first=12000 curr=6700 min=6600 max=12000 avg=7600.9 std=2094

Running benchmark for at least 50 iterations and at least 1 seconds
count=150 first=6675 curr=6680 min=6670 max=6684 avg=6676.7 std=3

Inference timings in us: Init: 9500, First inference: 12000, Warmup (avg): 7600.9, \
Inference (avg): 6676.7
Peak memory footprint (MB): init=0 overall=12.5
"""
NEWEST = """\
INFO: STARTING!
INFO: Graph: [model0.tflite]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 80 out of 82 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 \
partitions for subgraph 0.
INFO: Initialized session in 5.579ms.
INFO: count=1 curr=1400100 p5=1400100 median=1400100 p95=1400100

INFO: count=50 first=1260111 curr=1250222 min=1238588 max=1252566 avg=1.25031e+06 std=2565 \
p5=1238753 median=1249807 p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1400100, Warmup (avg): 1.4001e+06, \
Inference (avg): 1.25031e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.25 overall=109.5
"""
LITERT = """\
INFO: count=15 first=1033 curr=473 min=443 max=1033 avg=465.3 std=18 p5=459 median=463 p95=478
INFO: count=2112 first=463 curr=459 min=442 max=979 avg=464.5 std=13 p5=460 median=462 p95=478
INFO: [./litert/tools/benchmark_litert_model.h:81]
========== BENCHMARK RESULTS ==========
INFO: [./litert/tools/benchmark_litert_model.h:82] Model initialization: 4.48 ms
INFO: [./litert/tools/benchmark_litert_model.h:83] Warmup (first):       1.03 ms
INFO: [./litert/tools/benchmark_litert_model.h:87] Inference (avg):      0.46 ms (2112 runs)
INFO: [./litert/tools/benchmark_litert_model.h:109] Init footprint:       3.00 MB
INFO: [./litert/tools/benchmark_litert_model.h:111] Overall footprint:    8.50 MB
"""
PYTHON = """\
========================================
 BENCHMARK RESULTS
========================================
Model initialization:  15.48 ms
Warmup (first):        24.83 ms
Warmup (avg):          28.64 ms (3 runs)
Inference (avg):       19.78 ms (20 runs)
Inference (min):       13.75 ms
Inference (max):       30.11 ms
Inference (median):    16.00 ms
Inference (std):       6.13 ms
Inference (p5):        13.88 ms
Inference (p95):       28.59 ms
Throughput:            9.48 MB/s
Fully accelerated:     False
"""
LATENCY = {
    "init_ms": 15.48,
    "warmup_first_ms": 24.83,
    "warmup_avg_ms": 28.64,
    "num_warmup_runs": 3,
    "avg_ms": 19.78,
    "min_ms": 13.75,
    "max_ms": 30.11,
    "median_ms": 16.0,
    "std_ms": 6.13,
    "p5_ms": 13.88,
    "p95_ms": 28.59,
    "num_runs": 20,
}


def summary(output: str, result: str = "", kind: str = "benchmark_model") -> Summary:
    return parse_summary(kind, output, result, configuration=3, source="it")  # type: ignore[arg-type]


def test_without_percentiles() -> None:
    found = summary(OLDEST)
    assert (found.configuration, found.source, found.queries) == (3, "it", 150)
    assert found.mean_ms == pytest.approx(6.6767) and found.std_ms == pytest.approx(0.003)
    assert found.seconds == pytest.approx(150 * 6.6767e-3)
    assert (found.minimum_ms, found.maximum_ms) == (6.67, 6.684)
    assert found.p50_ms is None and found.p95_ms is None
    assert (found.load_ms, found.first_run_ms, found.model_kib) == (9.5, 12.0, 12800)


def test_with_percentiles() -> None:
    found = summary(NEWEST)
    assert found.queries == 50 and found.mean_ms == pytest.approx(1250.31)
    assert (found.p50_ms, found.p95_ms) == (1249.807, 1247.415)
    assert (found.load_ms, found.first_run_ms) == (5.579, 1400.1)
    assert found.model_kib == 112128


def test_lines_may_come_from_the_log_with_carriage_returns() -> None:
    log = "".join(
        f"07-08 15:33:56.256 I/tflite  ( 5395): {line}\r\n" for line in NEWEST.split("\n")
    )
    assert summary(log) == summary(NEWEST)


def test_litert_in_cpp() -> None:
    found = summary(LITERT)
    assert found.queries == 2112 and found.mean_ms == pytest.approx(0.4645)
    assert (found.load_ms, found.first_run_ms, found.model_kib) == (4.48, 1.033, 8704)


def test_litert_in_python() -> None:
    printed = summary(PYTHON, kind="litert-benchmark")
    assert printed.queries == 20 and printed.mean_ms == 19.78 and printed.p50_ms == 16.0
    assert (printed.load_ms, printed.first_run_ms, printed.model_kib) == (15.48, 24.83, None)
    result = json.dumps({"model": "m", "latency": LATENCY})
    assert summary("", result, kind="litert-benchmark") == printed


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Segmentation fault",
        "count=5 first=1 curr=1 min=1 max=1 avg=1 std=0",  # it ended in its warm-up
        "count=5 curr=1\ncount=5 first=1 curr=1 min=1 max=1 avg=nan std=0",
        "count=5 curr=1\ncount=5 first=1 curr=1 min=1 max=1 avg=-3 std=0",
        "count=5 curr=1\ncount=0 curr=1",
        "count=5 curr=x\ncount=5 first=1 curr=1 min=1 max=1 avg=1 std=0",
    ],
)
def test_nonsense(output: str) -> None:
    with pytest.raises(DeviceError, match="What it wrote is not understood"):
        summary(output)


@pytest.mark.parametrize("result", ["{", "[]", '{"latency": {}}', '{"latency": 3}', "null"])
def test_nonsense_in_json(result: str) -> None:
    with pytest.raises(DeviceError, match="is not understood"):
        summary(PYTHON, result, kind="litert-benchmark")


@given(st.text(alphabet="count=first cur minmax avg std.0123456789e+-\n:()", max_size=300))
def test_whatever_it_writes(output: str) -> None:
    try:
        found = summary(output)
    except DeviceError:
        return
    assert found.queries >= 1 and found.mean_ms > 0


def test_kind_by_its_help() -> None:
    usage = "usage: ./x <flags>\n\t--num_runs=50\tint32\n\t--graph=\tstring\trequired"
    assert kind_of(usage) == "benchmark_model"
    litert = "usage: litert-benchmark [-h] --model MODEL [--num_runs N] [--result_json R]"
    assert kind_of(litert) == "litert-benchmark"
    with pytest.raises(DeviceError, match="said: 'usage: true'"):
        kind_of("usage:  true\n")


def test_arguments_and_those_not_known() -> None:
    work = Work(runs=86, seconds=5.0, threads=4)
    words = arguments("benchmark_model", "m.tflite", work, result="r", operators=True)
    for word in ("--graph=m.tflite", "--num_threads=4", "--num_runs=86", "--min_secs=5"):
        assert word in words
    assert "--use_xnnpack=true" in words and "--enable_op_profiling=true" in words
    litert = arguments("litert-benchmark", "m.tflite", work, result="r", operators=False)
    assert {"--model=m.tflite", "--num_threads=4", "--result_json=r"} < set(litert)
    assert unheeded("WARN: Unconsumed cmdline flags: --a_b=1 --c") == ("a_b", "c")
    assert unheeded(NEWEST) == ()


BEFORE_2_7 = """\
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t            0.000\t    1.356\t    1.356\t100.000%\t100.000%\t\
     0.000\t        1\tAllocateTensors/0

============================== Top by Computation Time ==============================
Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t            0.066\t   88.5\t   61.25\t  2.066%\t  2.066%\t\
     0.000\t        1\t[net/Relu6]:0
\t       DEPTHWISE_CONV_2D\t           61.033\t   52.5\t   48.500\t  1.691%\t  3.757%\t\
     0.000\t        2\t[net/depthwise]:1

============================== Top by Computation Time ==============================
\t                 CONV_2D\t            0.066\t   88.5\t   61.25\t  2.066%\t  2.066%\t\
     0.000\t        1\t[net/Relu6]:0
"""
INSIDE = """\
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 80 out of 82 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 \
partitions for subgraph 0.
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
   [node type]   [first]   [avg ms]   [%]   [cdf%]   [mem KB]   [times called]   [Name]
   CAST   0.199   0.203   1.328%   1.328%   0.000   1   [cast]:0
   Convolution (NHWC, QC8) IGEMM   0.398   0.400   2.658%   3.986%   0.000   1   \
Delegate/Convolution (NHWC, QC8) IGEMM:0
   Add (ND, QS8)   0.004   0.002   0.028%   34.430%   0.000   3   Delegate/Add (ND, QS8):1
   DEQUANTIZE   0.199   0.101   1.328%   1.328%   0.000   1   [out]:81

============================== Top by Computation Time ==============================
"""
BESIDE = """\
VERBOSE: Replacing 80 out of 80 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 \
partitions for the whole graph.
Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
   [node type]   [first]   [avg ms]   [%]   [cdf%]   [mem KB]   [times called]   [Name]
   TfLiteGpuDelegateV2   5.199   5.203   100.000%   100.000%   0.000   1   [out]:80

============================== Top by Computation Time ==============================
Delegate internal:
============================== Run Order ==============================
   [node type]   [first]   [avg ms]   [%]   [cdf%]   [mem KB]   [times called]   [Name]
   DelegateOpInvoke   3.000   3.100   60.000%   60.000%   0.000   1   Delegate/conv 1:0
   DelegateOpInvoke   2.000   2.100   40.000%   100.000%   0.000   1   Delegate/add 2:1

============================== Top by Computation Time ==============================
"""


def operators(output: str) -> Operators:
    return parse_operators(
        output, configuration=1, source="it", inference_ms=9.0, plain_ms=8.0, in_file=82
    )


def test_operators_without_a_delegate() -> None:
    found = operators(BEFORE_2_7)
    assert [(o.name, o.kind, o.delegate) for o in found.operators] == [
        ("[net/Relu6]:0", "CONV_2D", ""),
        ("[net/depthwise]:1", "DEPTHWISE_CONV_2D", ""),
    ]
    assert [o.milliseconds for o in found.operators] == pytest.approx([61.25, 97.0])
    assert found.in_file == 82 and found.delegated is None and found.left_out == ()
    assert (found.inference_ms, found.plain_ms, found.source) == (9.0, 8.0, "it")


def test_operators_of_a_delegate_among_the_others() -> None:
    found = operators(INSIDE)
    assert [o.delegate for o in found.operators] == ["", "XNNPACK", "XNNPACK", ""]
    assert found.operators[1].kind == "Convolution (NHWC, QC8) IGEMM"
    assert found.operators[2].milliseconds == pytest.approx(0.006)  # 3 calls of 0.002
    assert (found.delegated, found.in_file, found.partitions) == (80, 82, 1)
    assert found.left_out == ("CAST", "DEQUANTIZE")


def test_operators_of_a_delegate_in_a_table_of_their_own() -> None:
    found = operators(BESIDE)
    assert [(o.kind, o.delegate) for o in found.operators] == [("conv 1", "GPU"), ("add 2", "GPU")]
    assert sum(o.milliseconds for o in found.operators) == pytest.approx(5.2)
    assert (found.delegated, found.partitions, found.left_out) == (80, 1, ())


def test_delegation_where_the_output_does_not_say_it() -> None:
    found = operators(INSIDE.replace("VERBOSE", "hidden").replace("Replacing", ""))
    assert (found.delegated, found.in_file, found.partitions) == (80, 82, None)
    assert found.left_out == ("CAST", "DEQUANTIZE")
    assert [o.delegate for o in found.operators] == ["", "XNNPACK", "XNNPACK", ""]


def test_no_table_of_operators() -> None:
    for output in (NEWEST, "Operator-wise Profiling Info for Regular Benchmark Runs:\nnothing\n"):
        with pytest.raises(DeviceError, match="gave no table of operators"):
            operators(output)


def test_operators_of_the_file() -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = bare_tflite()
    plain = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    assert operators_in(model) == len(plain._get_ops_details())


@given(st.binary(max_size=200), st.integers(0, 199))
def test_broken_files_have_no_operators_that_can_be_counted(noise: bytes, cut: int) -> None:
    for data in (noise, bare_tflite()[:cut], bare_tflite()[:cut] + noise):
        count = operators_in(data)
        assert count is None or count >= 0
