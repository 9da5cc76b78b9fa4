"""What a first visitor reads: plain sentences by rule, six neurons, three steps; small samples never headline."""

import re

import pandas as pd
import pytest

from medsae.store import queries
from medsae.store.artifacts import Store
from medsae.store.filter import FIRING_LEAST, Filter
from medsae.store.queries import Difference, Measure
from medsae.store.reader import Reader
from medsae.ui import bars
from medsae.ui.verdict import Side, sentences


def side(name, selective, **auroc):
    return Side(
        name, {"selective_share": Measure(selective)} if selective is not None else {}, pd.Series(auroc, dtype=float)
    )


SAE = side("the SAE", 0.28, Edema=0.90, Fracture=0.60, Nodule=float("nan"))
RAW = side("the raw embedding", 1.0, Edema=0.80, Fracture=0.61, Nodule=0.7)


def test_sentences_say_which_side_wins_which_measure():
    text = " ".join(sentences(SAE, RAW, Difference(-0.3, -0.4, -0.2, -0.1, 0.1)))
    assert "100 % of the neurons of the raw embedding, and 28.0 % of those of the SAE" in text
    assert (
        "a neuron of the SAE is about fewer labels than one of the raw embedding (by 0.30 bits of entropy), more than shuffled labels explain"
        in text
    )
    assert "neuron of the SAE tells 1 of 2 labels better, that of the raw embedding 0 and 1 come out alike" in text, (
        "a label that one side lacks does not count"
    )


@pytest.mark.parametrize(("difference", "said"), [
    (Difference(0.3, 0.2, 0.4, -0.1, 0.1), "a neuron of the raw embedding is about fewer labels"),
    (Difference(-0.05, -0.1, 0.01, -0.1, 0.1), "cannot be told apart"),
    (Difference(-0.05, -0.08, -0.02, -0.1, 0.1), "shuffled labels give such a difference too"),
    (Difference(-0.3, note="draws do not pair"), ""),
    (None, ""),
])  # fmt: skip
def test_a_difference_of_entropy_is_said_as_strongly_as_it_is_known(difference, said):
    text = " ".join(sentences(SAE, RAW, difference))
    assert (said in text) if said else "entropy" not in text


def test_of_one_label_it_is_said_by_its_name():
    a, b = side("the SAE", 0.01, Edema=0.65), side("the raw embedding", 0.0, Edema=0.66)
    assert sentences(a, b, None) == [
        "About as many neurons of both sides (1.0 % and 0 %) go with a label more than shuffled labels would let them.",
        "The best single neuron tells Edema about as well on both sides.",
    ]
    assert sentences(a, side("the raw embedding", 0.0, Edema=0.9), None)[-1] == (
        "The best single neuron of the raw embedding tells Edema better than that of the SAE."
    )


def test_one_side_alone_and_what_was_not_computed():
    assert sentences(SAE, None, None) == ["28.0 % of the neurons of the SAE go with a label more than shuffled labels would let them.",
                                          "One neuron alone tells Edema best (AUROC 0.90 on other patients)."]  # fmt: skip
    assert (
        sentences(side("SAE", None), None, None) == [] and sentences(side("SAE", None), side("raw", None), None) == []
    )


@pytest.mark.long
def test_a_label_of_few_images_leads_nothing(app, html, data, ids):
    scores, reader = Store().get(ids.scores, "scores"), Reader()
    least = next(n for n in (20, 50) if queries.scarce_labels(reader, scores, n))
    scarce = queries.scarce_labels(reader, scores, least)
    assert len(scarce) < len(queries.best_of_labels(reader, scores)), "some hold"
    for sort in ("-rho", "q", "entropy"):
        rows = queries.neurons(reader, scores, Filter(sort=sort, least=least), None)
        mine = rows["top_label"].isin(list(scarce)).to_numpy()
        assert mine.any() and not mine[: len(mine) - mine.sum()].any(), f"{sort}: they come last"
        unasked = queries.neurons(reader, scores, Filter(sort=sort, least=1), None)
        assert list(unasked["neuron"]) != list(rows["neuron"])
    text = html(app.open("overview", least=least))
    table = text[text.index("Best neuron of each label") :]
    table = table[: table.index("</table>")]
    labels = [re.sub("<.*?>", "", row) for row in re.findall(r"<tr><td>(.*?)</td>", table)]
    assert set(labels[-len(scarce) :]) == set(scarce) and table.count("too few images to say") == len(scarce)
    six = text[text.index('class="ms-six"') : text.index('class="ms-steps"')]
    assert not [label for label in scarce if f">{label} ρ" in six]
    row = rows[mine].iloc[0]
    shown = html(app.open("neuron", neuron=int(row["neuron"]), least=least))
    assert "only: too few" in shown and f"strongest ρ: {row['top_label']}" not in shown
    assert f"strongest ρ: {row['top_label']}" in html(app.open("neuron", neuron=int(row["neuron"]), least=1))


def test_bars_of_few_images_have_no_interval_and_come_last():
    frame = pd.DataFrame(
        {
            "label": ["Pneumothorax", "Edema"],
            "rho": [1.0, 0.3],
            "low": [1.0, 0.2],
            "high": [1.0, 0.4],
            "n": [2, 90],
            "reason": [None, None],
        }
    )
    drawn = bars.correlations(frame, "sae", {"Pneumothorax": 1})
    assert (
        drawn.index("Edema") < drawn.index("Pneumothorax") and "[1.00, 1.00]" not in drawn and "1 image only" in drawn
    )
    assert "n 90" in drawn and "width:0.0%" not in drawn
    assert "left:50.0%;width:37.5%" in drawn, "the scale is that of what holds: 0.3 of 0.4"


def test_three_steps_and_six_neurons_are_links_that_work(app, html, data, ids):
    text = html(app.open("overview"))
    steps = text[text.index('class="ms-steps"') :]
    assert steps[: steps.index("</ol>")].count("<li>") == 3
    six = text[text.index('class="ms-six"') : text.index('class="ms-steps"')]
    neurons = re.findall(r'class="ms-card" data-go href="neuron\?[^"]*neuron=(\d+)"', six)
    assert 1 <= len(neurons) <= 6 and len(set(neurons)) == len(neurons)


def test_a_share_is_rounded_alike_on_every_page(app, html, data, ids):
    share = queries.summary(Reader(), Store().get(ids.scores, "scores"))["selective_share"].value
    assert share is not None and round(share, 2) != round(share, 3), "whole per cents would differ from tenths"
    for page in ("overview", "entropy", "compare"):
        text = html(app.open(page, scores=ids.scores))
        assert f"{100 * share:.1f} %" in text and f"{100 * share:.0f} %" not in text, page


def test_fewer_than_six_neurons_are_not_called_six_and_none_of_few_images_leads(app, html, data, ids, monkeypatch):
    asked = queries.neurons

    def two(*arguments, **named):
        rows = asked(*arguments, **named).head(3)
        return rows.assign(active=[FIRING_LEAST - 1, *rows["active"][1:]])

    first = asked(Reader(), Store().get(ids.scores), Filter(show="selective", sort="-rho"), 400)["neuron"]
    monkeypatch.setattr(queries, "neurons", two)
    text = html(app.open("overview"))
    assert "Six neurons" not in text and ">2 neurons" in text
    assert f'neuron={first.iloc[0]}"' not in text[text.index('class="ms-six"') : text.index('class="ms-steps"')]
