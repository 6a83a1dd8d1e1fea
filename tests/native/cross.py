"""Runs check_kernels on the CPUs that this machine can emulate; says what it had to leave out.

    python tests/native/cross.py BUILD_FOLDER

Emulation (qemu-user) runs old x86 CPUs, whose wider instructions are then illegal, and aarch64,
for which the program is compiled by the cross compiler of Debian. It needs the packages qemu-user,
gcc-aarch64-linux-gnu and libc6-dev-arm64-cross. Exit status 1: some check failed.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 1800
# qemu 7.2 loses its own locks in children of a process with threads: forks are not for it
FAMILIES = ("tiles", "layers", "chains", "probes", "threads")


@dataclass(frozen=True)
class Target:
    """A CPU, and the instruction sets that must be found there."""

    name: str
    machine: str  # as platform.machine() calls it
    command: tuple[str, ...]
    sets: tuple[str, ...]
    options: tuple[str, ...] = ()  # of the program


AARCH64_ROOT = "/usr/aarch64-linux-gnu"  # where libc6-arm64-cross puts the C library
TARGETS = (
    Target("x86-64 with SSSE3", "x86_64", ("qemu-x86_64", "-cpu", "core2duo"), ("baseline",)),
    Target("x86-64 with SSE4.2", "x86_64", ("qemu-x86_64", "-cpu", "Nehalem"),
           ("baseline", "sse42")),
    Target("x86-64 with AVX, no AVX2", "x86_64", ("qemu-x86_64", "-cpu", "SandyBridge"),
           ("baseline", "sse42")),
    Target("x86-64 with AVX2 and FMA", "x86_64", ("qemu-x86_64", "-cpu", "Haswell"),
           ("baseline", "sse42", "avx2"), ("--room",)),  # qemu 7.2 loads the masked lanes too
    Target("aarch64", "aarch64", ("qemu-aarch64", "-L", AARCH64_ROOT), ("baseline", "neon")),
)  # fmt: skip
COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
PACKAGES = {
    "qemu-x86_64": "qemu-user",
    "qemu-aarch64": "qemu-user",
    "x86_64-linux-gnu-gcc": "gcc-x86-64-linux-gnu",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
}


def build(machine: str, folder: Path) -> Path:
    """Compile check_kernels for *machine*; return the program."""
    options = ["-DARCHSIM_CHECKS=ONLY", "-DCMAKE_BUILD_TYPE=Release", "-G", "Ninja"]
    if machine != platform.machine():
        options += [
            "-DCMAKE_SYSTEM_NAME=Linux",
            f"-DCMAKE_SYSTEM_PROCESSOR={machine}",
            f"-DCMAKE_C_COMPILER={COMPILERS[machine]}",
        ]
    tree = folder / machine
    subprocess.run(
        ["cmake", "-S", ROOT, "-B", tree, *options], check=True, stdout=subprocess.DEVNULL
    )
    subprocess.run(["cmake", "--build", tree], check=True)
    return tree / "tests" / "native" / "check_kernels"


def missing(target: Target) -> str | None:
    """Return the tool that a target needs and this machine lacks."""
    tools = [target.command[0]]
    if target.machine != platform.machine():
        tools.append(COMPILERS[target.machine])
    return next((tool for tool in tools if shutil.which(tool) is None), None)


def check(target: Target, program: Path) -> str | None:
    """Run the program on a target; return what is wrong with it."""
    # qemu's own warnings of CPU features that it leaves out go to stderr, with our failures
    command = [*target.command, str(program), *target.options, *FAMILIES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    lines = run.stdout.splitlines()
    sets = tuple(dict.fromkeys(line.split()[0] for line in lines[:-1]))
    if run.returncode != 0:
        return f"exit status {run.returncode}\n{run.stdout}{run.stderr}"
    if sets != target.sets:
        return f"ran {', '.join(sets)}; must run {', '.join(target.sets)}"
    print(f"{target.name}: {', '.join(sets)}: {lines[-1]}")
    return None


def main(folder: Path) -> int:
    """Check every target that this machine can; return the exit status."""
    failed = 0
    programs: dict[str, Path] = {}
    for target in TARGETS:
        tool = missing(target)
        if tool is not None:
            print(f"{target.name}: skipped: {tool} is missing (apt-get install {PACKAGES[tool]})")
            continue
        if target.machine not in programs:
            programs[target.machine] = build(target.machine, folder)
        wrong = check(target, programs[target.machine])
        if wrong is not None:
            failed += 1
            print(f"{target.name}: FAILED: {wrong}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
