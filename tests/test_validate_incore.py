"""In-core cycles against llvm-mca: which loops, and how they are cut out of the assembly."""

from __future__ import annotations

from pathlib import Path

import pytest

import archsim
from archsim.cli import run
from archsim.validate.incore import loops_of
from archsim.validate.llvm_mca import whole_loops

ASSEMBLY = """\
	vmovups	(%r9), %zmm5
	jmp	.L94
.L93:
	movq	%rdx, %rcx
.L94:
#APP
	# LLVM-MCA-BEGIN row-2x1
#NO_APP
	addq	$1, %rax
#APP
	# LLVM-MCA-END
#NO_APP
	movq	%rdi, %rdx
	cmpq	%rax, %r9
	jne	.L93
	ret
"""


def test_marks_hold_the_whole_loop() -> None:
    lines = [line.strip() for line in whole_loops(ASSEMBLY).splitlines()]
    begin, end = lines.index("# LLVM-MCA-BEGIN row-2x1"), lines.index("# LLVM-MCA-END")
    inside = lines[begin:end]
    assert inside[1] == "movq\t%rdx, %rcx"
    assert inside[-1] == "jne\t.L93"
    assert "ret" not in inside
    assert sum("LLVM-MCA" in line for line in lines) == 2


def test_marks_without_a_loop_are_left_out() -> None:
    alone = ASSEMBLY.replace("jne\t.L93", "jne\t.L1")
    assert "LLVM-MCA" not in whole_loops(alone)


@pytest.mark.parametrize("name", ["atom-c2750", "xeon-e5-2697v4-2s", "xeon-skylake-sp-2s"])
def test_a_turn_is_one_nonzero_of_a_register_block(name: str) -> None:
    loops = list(loops_of(archsim.load_machine(name)))
    assert len(loops) == len({(loop.source, loop.label) for loop in loops}) >= 10
    for loop in loops:
        rows, vectors = map(int, loop.label.split("-")[1].split("x"))
        assert loop.work.multiply_adds[0] == pytest.approx(rows * vectors)
        assert loop.work.broadcasts[0] == pytest.approx(1.0)
        assert loop.work.loads_line_crossing[0] == 0.0


def test_a_missing_witness_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["validate", "incore"]) == 1
    assert "apt-get install llvm" in capsys.readouterr().err
