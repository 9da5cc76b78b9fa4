"""What a step says: one line of a reason."""

import io
import pickle

import pytest
import torch

from medsae.progress import first_line


class _Runs:
    def __reduce__(self):
        return print, ("this ran",)


def test_why_a_file_is_refused_is_said_in_one_line_without_advice_to_run_its_code(capsys):
    held = io.BytesIO()
    torch.save({"w": _Runs()}, held)
    with pytest.raises(pickle.UnpicklingError) as refused:
        torch.load(io.BytesIO(held.getvalue()), weights_only=True)
    assert "arbitrary code" in str(refused.value)
    line = first_line(refused.value)
    assert "nsupported" in line and "print" in line and "safe_globals" not in line and "weights_only" not in line
    assert capsys.readouterr().out == ""
    assert first_line(ValueError("\n  one\ntwo"), 2) == "on" and first_line(KeyError()) == "KeyError"
