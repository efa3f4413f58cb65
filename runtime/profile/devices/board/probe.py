"""What a board has: its Python, its C library, free space, and packages that can be imported.

Reads a line of JSON: ``folders`` to try one after the other for ours, ``modules`` to import.
Writes a line of JSON after the word on the line before. Runs on any Python, so that one that is too
old is found out.
"""

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile

IMPORT = (
    "import importlib, json, sys; "
    "m = importlib.import_module(sys.argv[1]); "
    "d = sys.argv[2]; "
    "import importlib.metadata as md\n"
    "try: v = md.version(d)\n"
    "except md.PackageNotFoundError: v = getattr(m, '__version__', '')\n"
    "print('edgedf:' + json.dumps(str(v)))"
)


def libc():
    """Name and version of the C library."""
    try:
        name, version = os.confstr("CS_GNU_LIBC_VERSION").split()[:2]
        return name, version
    except (AttributeError, OSError, ValueError):
        pass
    for loader in ("/lib/ld-musl-%s.so.1" % m for m in ("x86_64", "aarch64", "armhf", "i386")):
        if os.path.exists(loader):
            output = subprocess.Popen([loader], stderr=subprocess.PIPE).communicate()[1]
            for line in output.decode("utf-8", "replace").splitlines():
                if line.startswith("Version "):
                    return "musl", line.split()[1]
            return "musl", ""
    return "", ""


def architecture():
    """Of the interpreter, which may be a 32-bit one under a 64-bit kernel."""
    machine = platform.machine()
    if struct.calcsize("P") == 4:
        return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(machine, machine)
    return machine


def folder(candidates):
    """The first folder that can be written and whose files may be executed, and its free bytes."""
    for candidate in candidates:
        path = os.path.expanduser(os.path.expandvars(candidate))
        if "$" in path or not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
            continue
        try:
            there = os.statvfs(path)
        except OSError:
            continue
        if there.f_flag & getattr(os, "ST_NOEXEC", 8):  # a library could not be loaded from it
            continue
        return os.path.abspath(path), there.f_bavail * there.f_frsize
    return "", 0


def start_import(module, distribution, home):
    """A process that imports a package and says which version it is."""
    # ONNX Runtime writes there, unless it is told not to.
    own = {"HOME": home, "XDG_CACHE_HOME": home, "TMPDIR": home, "ORT_DISABLE_TELEMETRY": "1"}
    own["PYTHONUSERBASE"] = os.environ.get("PYTHONUSERBASE") or os.path.expanduser("~/.local")
    return subprocess.Popen(
        [sys.executable, "-c", IMPORT, module, distribution],
        env=dict(os.environ, **own),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def version_of(process):
    """What such a process says; None where the package cannot be imported."""
    output = process.communicate()[0].decode("utf-8", "replace")
    for line in output.splitlines():
        if process.returncode == 0 and line.startswith("edgedf:"):
            return json.loads(line[len("edgedf:") :])
    return None


def importable(modules, parent):
    """Versions of the packages that can be imported; what that writes is removed."""
    home = tempfile.mkdtemp(prefix=".edgedf-", dir=parent)
    try:
        started = {name: start_import(modules[name], name, home) for name in modules}
        versions = {name: version_of(started[name]) for name in started}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return {name: version for name, version in versions.items() if version is not None}


def main():
    """Answer with what the machine has."""
    asked = json.loads(sys.stdin.readline())
    facts = {
        "implementation": platform.python_implementation(),
        "version": list(sys.version_info[:3]),
        "abiflags": getattr(sys, "abiflags", ""),
        "architecture": architecture(),
        "system": platform.system(),
        "modules": {},
    }
    if sys.version_info >= (3, 9):
        facts["libc"], facts["libc_version"] = libc()
        facts["folder"], facts["free"] = folder(asked["folders"])
        if facts["folder"]:
            facts["modules"] = importable(asked["modules"], facts["folder"])
    sys.stdout.write("\n%s\n%s\n" % (asked["word"], json.dumps(facts)))


main()
