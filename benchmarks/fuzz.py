"""Bad input by the thousand: what edgedf makes of damaged files and of devices that lie.

    python -m benchmarks.fuzz --cases 10000 --keep fuzz/          # goes on where it was cut off
    python -m benchmarks.fuzz --cases 500 --kinds jpeg png --seed 7 --json

A case is a good input of a kind, damaged by random numbers that the seed, the kind and the number
of the case give. Each is read in a process of its own, as the verbs read it; every tenth by the
command line. Forbidden are an exception that is none of edgedf's errors, more than 10 s, more than
1 GiB of memory with all imports, and the end by a signal. Exit code: 0 none of these, 1 some.

With --keep every outcome is noted in DIR/outcomes.jsonl, and forbidden cases are kept beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgedf.machine import this_host
from tests.fuzz.kinds import KINDS, case, cool, outcome
from tests.fuzz.sandbox import Outcome

CLI_EVERY = 10


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=10_000, help="of all kinds (default: 10000)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="outcomes and forbidden cases")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(argv)
    each = -(-options.cases // len(options.kinds))
    found: dict[str, list[Outcome]] = {}
    for name in options.kinds:
        found[name] = _kind(name, each, options.seed, options.keep)
    document = {
        "host": asdict(this_host()),
        "seed": options.seed,
        "cases": sum(map(len, found.values())),
        "forbidden": sum(o.forbidden for outcomes in found.values() for o in outcomes),
        "kinds": {name: _summary(outcomes) for name, outcomes in found.items()},
    }
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        _print(document)
    return int(document["forbidden"] > 0)


def _kind(name: str, count: int, seed: int, keep: Path | None) -> list[Outcome]:
    """All cases of a kind, in a process that imports what this kind needs and no more."""
    done = _noted(keep, name, seed)
    if all(number in done for number in range(count)):
        return [done[number] for number in range(count)]
    read, write = os.pipe()
    server = os.fork()
    if server == 0:
        os.close(read)
        status = 1
        try:
            with os.fdopen(write, "w") as pipe:
                KINDS[name].warm()
                for number in range(count):
                    if number not in done:
                        through_cli = number % CLI_EVERY == 0
                        made = outcome(name, number, seed, through_cli=through_cli)
                        pipe.write(json.dumps([number, asdict(made)]) + "\n")
                        pipe.flush()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            cool()
            os._exit(status)
    os.close(write)
    last = time.monotonic()
    with os.fdopen(read) as pipe:
        for line in pipe:
            number, fields = json.loads(line)
            made = done[number] = Outcome(**fields)
            if keep is not None:
                _note(keep, name, seed, number, made)
            if made.forbidden:
                print(f"{name} {number}: {made.status}: {made.detail[-1500:]}", file=sys.stderr)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                bad = sum(outcome.forbidden for outcome in done.values())
                print(f"{name}: {len(done)}/{count}, {bad} forbidden", file=sys.stderr)
    if os.waitpid(server, 0)[1] != 0:
        raise SystemExit(f"The cases of {name} could not be made; see above.")
    return [done[number] for number in range(count)]


def _noted(keep: Path | None, name: str, seed: int) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    if keep is not None and (keep / "outcomes.jsonl").is_file():
        for line in (keep / "outcomes.jsonl").read_text().splitlines():
            entry = json.loads(line)
            if (entry["kind"], entry["seed"]) == (name, seed):
                found[entry["number"]] = Outcome(**entry["outcome"])
    return found


def _note(keep: Path, name: str, seed: int, number: int, made: Outcome) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    entry = {"kind": name, "seed": seed, "number": number, "outcome": asdict(made)}
    with (keep / "outcomes.jsonl").open("a") as stream:
        stream.write(json.dumps(entry) + "\n")
    if made.forbidden:
        path = keep / f"{name.replace(' ', '-')}-{seed}-{number}"
        path.write_bytes(case(name, number, seed))


def _summary(outcomes: Sequence[Outcome]) -> dict[str, object]:
    refusals: dict[str, int] = defaultdict(int)
    for found in outcomes:
        if found.status == "refused":
            refusals[found.detail.partition(":")[0]] += 1
    return {
        "outcomes": dict(Counter(found.status for found in outcomes)),
        "refusals": dict(sorted(refusals.items())),
        "longest_s": round(max(found.seconds for found in outcomes), 2),
        "most_mib": max(found.peak_bytes for found in outcomes) >> 20,
    }


def _print(document: dict) -> None:  # type: ignore[type-arg]
    print(f"{document['cases']} cases, seed {document['seed']}, {document['forbidden']} forbidden")
    print(f"{document['host']['cpu']}, {document['host']['cores']} cores\n")
    print("| kind | cases | taken | refused | forbidden | longest, s | most memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name, found in document["kinds"].items():
        counts = found["outcomes"]
        fine = counts.get("taken", 0), counts.get("refused", 0)
        cells = (name, sum(counts.values()), *fine, sum(counts.values()) - sum(fine))
        print("|", " | ".join(map(str, (*cells, found["longest_s"], found["most_mib"]))), "|")


if __name__ == "__main__":
    sys.exit(main())
