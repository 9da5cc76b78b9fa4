"""The order of questions: everything once, controls only from finished portions, and never idle without need."""

from hypothesis import given, settings
from hypothesis import strategies as st

from medsae.naming.agenda import Agenda


def test_by_hand():
    """Portions of two: while 1 is still to be explained, 0 is judged without the control, then 2 and 3 are explained."""
    agenda = Agenda([0, 1, 2, 3], 2, [7])
    assert [agenda.next(), agenda.next()] == [(0, "explain"), (1, "explain")]
    agenda.explained(0, True)
    assert agenda.next() == (0, "judge but shuffled") and agenda.others == {7}
    assert [agenda.next(), agenda.next(), agenda.next()] == [(2, "explain"), (3, "explain"), None]
    agenda.explained(2, True)
    assert agenda.next() == (2, "judge but shuffled") and agenda.others == {7}
    agenda.explained(3, False)
    assert agenda.next() is None
    agenda.explained(1, True)
    assert [agenda.next(), agenda.next()] == [(0, "judge shuffled"), (1, "judge")] and agenda.others == {7, 0, 1}
    assert agenda.next() == (2, "judge shuffled") and agenda.others == {7, 2}
    assert agenda.next() is None and not agenda.portions


def test_the_next_portion_is_explained_while_one_is_judged():
    agenda = Agenda([0, 1, 2, 3], 2, [])
    assert [agenda.next(), agenda.next()] == [(0, "explain"), (1, "explain")]
    agenda.explained(0, True)
    agenda.explained(1, True)
    steps = [agenda.next() for _ in range(4)]
    assert steps == [(2, "explain"), (0, "judge"), (3, "explain"), (1, "judge")]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 7), st.integers(1, 9), st.randoms())
def test_every_neuron_is_explained_and_judged_once_in_any_order_of_replies(neurons, size, flying, random):
    agenda, asked, steps = Agenda(list(range(neurons)), size, []), [], []
    named = [random.random() < 0.7 for _ in range(neurons)]
    while True:
        while len(asked) < flying and (step := agenda.next()) is not None:
            steps.append(step)
            if step[1] == "explain":
                asked.append(step[0])
            elif "but" not in step[1]:
                portion = range(step[0] // size * size, min(neurons, (step[0] // size + 1) * size))
                assert {n for n in portion if named[n]} <= agenda.others <= set(range(portion.stop))
        if not asked:
            break
        neuron = asked.pop(random.randrange(len(asked)))
        agenda.explained(neuron, named[neuron])
    assert sorted(n for n, s in steps if s == "explain") == list(range(neurons))
    judged = sorted(n for n, s in steps if s in ("judge", "judge but shuffled"))
    assert judged == [n for n in range(neurons) if named[n]]
    late = sorted(n for n, s in steps if s == "judge shuffled")
    assert late == sorted(n for n, s in steps if s == "judge but shuffled")
    assert agenda.next() is None
