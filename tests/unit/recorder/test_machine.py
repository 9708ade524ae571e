from __future__ import annotations

from porting_check.recorder.machine import machine

INTEL = "processor : 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse4_2 avx avx2 fma weird avx512f\n"
ARM = "processor : 0\nFeatures : fp asimd bf16 sve\nModel : A board\n"


def test_the_processor_and_what_it_can_do(tmp_path):
    (tmp_path / "intel").write_text(INTEL)
    (tmp_path / "arm").write_text(ARM)
    intel = machine(str(tmp_path / "intel"), {})
    assert intel["processor"] == "Some CPU @ 2 GHz"
    assert intel["instructions"] == "sse4_2 avx avx2 fma avx512f"
    assert machine(str(tmp_path / "arm"), {})["instructions"] == "asimd bf16 sve"


def test_only_variables_that_change_numbers_are_told(tmp_path):
    found = machine("", {"OMP_NUM_THREADS": "3", "AWS_SECRET_ACCESS_KEY": "hidden", "XLA_FLAGS": ""})
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["XLA_FLAGS"] == ""
    assert "hidden" not in str(found)
    assert int(found["cores"]) >= 1


def test_without_proc_there_is_still_an_answer(tmp_path):
    assert "instructions" not in machine(str(tmp_path / "absent"), {})
    assert machine(str(tmp_path / "absent"), {})["processor"]
