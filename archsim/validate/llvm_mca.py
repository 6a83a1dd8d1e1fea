"""LLVM's throughput analyser as a witness: marked loops compiled, cut out, and analysed.

llvm-mca is a program of its own (Debian: package ``llvm``); the C sources are those of a checkout.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from archsim.validate.witness import AnalysisError, WitnessMissingError

_TURNS: Final = 200
#: Cores whose bound by resources is taken: LLVM's simulated pipeline of Silvermont is more than
#: twice too slow where the resources are right (published loops of multiplies and additions).
_BY_RESOURCES: Final = ("silvermont",)
#: Slots of a cycle, where a load and its arithmetic are one micro-operation until they execute:
#: llvm-mca counts two (it does not model micro-fusion), so these are twice Intel's four.
_FUSED_SLOTS: Final[Mapping[str, int]] = {"broadwell": 8, "skylake-avx512": 8}
#: Compiler flags of the sets, as in CMakeLists.txt.
FLAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "baseline": (),
    "sse42": ("-msse4.2",),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma",
               "-mprefer-vector-width=512"),
    "neon": (),
}  # fmt: skip
_NAMES: Final = ("llvm-mca", *(f"llvm-mca-{version}" for version in range(25, 13, -1)))
_LABEL: Final = re.compile(r"\.\w+:$")
_JUMP: Final = re.compile(r"\s+(?:j\w+|b\.?\w*)\s+(\.\w+)\s*$")
_NEAR: Final = 24  # lines between a mark and the loop's first or last one


@dataclass(frozen=True, slots=True)
class Analyser:
    """llvm-mca, a compiler, and the folder of C sources."""

    program: str
    compiler: str
    sources: Path

    @classmethod
    def find(cls) -> Analyser:
        """Find the programs.

        Raises
        ------
        WitnessMissingError
        """
        program = next((path for path in map(shutil.which, _NAMES) if path), None)
        if program is None:
            raise WitnessMissingError(
                "validate incore: llvm-mca is missing; Debian and Ubuntu: apt-get install llvm"
            )
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise WitnessMissingError(
                "validate incore: a C compiler is missing; Debian and Ubuntu: apt-get install gcc"
            )
        here = Path(__file__).resolve()
        for root in (here.parents[2], here.parents[1]):
            if (root / "kernels" / "csrc").is_dir():
                return cls(program, compiler, root / "kernels" / "csrc")
        raise WitnessMissingError(
            "validate incore: the C sources are missing; run it in a checkout of archsim"
        )

    def version(self) -> str:
        """Return what the analyser calls itself."""
        return _run(self.program, "--version").strip().splitlines()[0].strip()

    def host_core(self) -> str:
        """Return what LLVM takes this host's core for; empty where it does not say."""
        said = _run(self.program, "--version")
        found = re.search(r"Host CPU:\s*(\S+)", said)
        return found.group(1) if found else ""

    def compile(self, isa: str, sources: Iterable[str], folder: Path) -> None:
        """Write the assembly of an instruction set's marked loops into a folder."""
        for source in sources:
            assembly = folder / f"{source}.s"
            _run(
                self.compiler, "-std=gnu11", "-O3", "-fPIC", "-DAS_MARK_LOOPS", f"-DAS_ISA={isa}",
                f"-DAS_ISA_IS_{isa.upper()}", *FLAGS[isa], "-S", "-o", str(assembly),
                str(self.sources / source),
            )  # fmt: skip
            text = whole_loops(assembly.read_text(encoding="utf-8"))
            assembly.write_text(text, encoding="utf-8")

    def cycles(
        self, sources: Iterable[str], core: str | None, folder: Path
    ) -> dict[tuple[str, str], float]:
        """Return cycles of a turn, by source and label, on a core (None: this host's)."""
        found: dict[tuple[str, str], float] = {}
        slots = _FUSED_SLOTS.get(core or self.host_core())
        width = [f"--dispatch={slots}"] if slots else []
        for source in sources:
            said = _run(
                self.program, f"-mcpu={core or 'native'}", f"--iterations={_TURNS}", "--json",
                *width, str(folder / f"{source}.s"),
            )  # fmt: skip
            for region in json.loads(said)["CodeRegions"]:
                view = region["SummaryView"]
                cycles = view["TotalCycles"] / _TURNS
                if core in _BY_RESOURCES:
                    cycles = view["BlockRThroughput"]
                key = (source, region["Name"])
                # compilers copy loops: the copy that takes longest is the general one
                found[key] = max(found.get(key, 0.0), cycles)
        return found


def whole_loops(assembly: str) -> str:
    """Move marks out to the label before and the jump back behind.

    Compilers move parts of a turn (copies of registers, the counter) out of the marked body; what
    is left alone may wait for itself in a way that the loop does not. Marks that stand in no loop
    are left out.
    """
    lines = assembly.splitlines()
    begins = [i for i, line in enumerate(lines) if "# LLVM-MCA-BEGIN" in line]
    ends = [i for i, line in enumerate(lines) if "# LLVM-MCA-END" in line]
    insert: dict[int, list[str]] = {}
    labels = {line[:-1]: i for i, line in enumerate(lines) if _LABEL.match(line)}
    for begin in begins:
        end = next((i for i in ends if i > begin), len(lines))
        for i in range(end, min(end + _NEAR, len(lines))):
            back = _JUMP.match(lines[i])
            top = labels.get(back.group(1), len(lines)) if back else len(lines)
            if begin - _NEAR <= top < begin:
                insert.setdefault(top + 1, []).append(lines[begin].strip())
                insert.setdefault(i + 1, []).append("# LLVM-MCA-END")
                break
    found: list[str] = []
    for i, line in enumerate(lines):
        found += insert.get(i, [])
        if "# LLVM-MCA-" not in line:
            found.append(line)
    return "\n".join(found) + "\n"


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        return done.stdout
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or "").strip().splitlines() or ["failed"]
        raise AnalysisError(f"{Path(command[0]).name}: {reason[-1]}") from None
