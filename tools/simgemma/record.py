"""What simgemma can and cannot do, measured on patients it has never seen: the numbers of simgemma.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from medsae.naming import prompts
from medsae.naming.backends.medgemma import _Features
from medsae.naming.replies import parse_choice, parse_explanation, parse_verdicts
from tools.simgemma import words
from tools.simgemma.language import hidden, padded
from tools.simgemma.lessons import Teacher, Text
from tools.simgemma.world import World, shared

PER_SIDE = 40
"""Pictures with and without a fact that the judge is asked about."""
PROBED = 0.95
"""simclip's AUROC from which on simgemma should reach `WANTED`."""
WANTED = 0.90
Wording = Callable[[str], tuple[str, str]]


@torch.inference_mode()
def probabilities(net: Any, text: Text, world: World, rows: np.ndarray, asked: str) -> np.ndarray:
    """P(yes) / (P(yes) + P(no)) for each picture, as the backend reads it."""
    found = []
    for part in np.array_split(rows, max(1, len(rows) // 120)):
        ids, mask = padded([text.prompt(1, asked)] * len(part))
        logits = net.lm_head(hidden(net, ids, mask, world.z[part])[:, -1]).float().softmax(-1)
        yes, no = logits[:, text.yes].sum(1), logits[:, text.no].sum(1)
        found.append((yes / (yes + no)).numpy())
    return np.concatenate(found)


def sample(world: World, k: int, rng: np.random.Generator, most: int) -> np.ndarray:
    """As many pictures with a fact as without it, `most` of each at most."""
    has, lacks = np.flatnonzero(world.f[:, k]), np.flatnonzero(~world.f[:, k])
    n = min(most, len(has), len(lacks))
    return np.concatenate([rng.choice(has, n, replace=False), rng.choice(lacks, n, replace=False)])


def judging(net: Any, text: Text, world: World, wording: Wording = words.answer_of, seed: int = 1,
            form: str = prompts.JUDGE_STRICT, most: int = 15) -> dict[str, dict[str, float]]:  # fmt: skip
    """fact -> AUROC and balanced accuracy of the judge, in a wording."""
    out = {}
    for k in world.spoken:
        rng = np.random.default_rng([seed, int(k)])
        rows, fact = sample(world, int(k), rng, most), world.facts[k]
        concept, description = wording(fact)
        asked = form.format(concept=prompts.quote(concept, 200), description=prompts.quote(description))
        p, y = probabilities(net, text, world, rows, asked), world.f[rows, k]
        balanced = ((p[y] >= 0.5).mean() + (p[~y] < 0.5).mean()) / 2
        out[fact] = {"auroc": round(float(roc_auc_score(y, p)), 3), "balanced_accuracy": round(float(balanced), 3)}
    return out


def mean_of(found: dict[str, dict[str, float]], key: str = "auroc") -> float:
    return round(float(np.mean([row[key] for row in found.values()])), 3)


def wordings(net: Any, text: Text, world: World) -> dict[str, Any]:
    """Mean AUROC and balanced accuracy in other words than its own; for absences, of the opposite."""

    def paraphrase(fact: str) -> tuple[str, str]:
        known = words.wording(fact)
        return known.concepts[1 % len(known.concepts)], known.descriptions[-1]

    def unseen(frame: str) -> Wording:
        return lambda fact: (words.framed(frame, words.answer_of(fact)[0]), words.UNSEEN_VAGUE)

    changed = prompts.JUDGE_STRICT.replace("radiograph", "chest picture").replace("one word", "a single word")
    asked = {
        "its own words": judging(net, text, world),
        "a paraphrase": judging(net, text, world, paraphrase),
        "the label alone": judging(net, text, world, lambda fact: (
            words.wording(fact).concepts[1 % len(words.wording(fact).concepts)],
            "As radiologists and their reports use the word.")),
        "a frame it never saw": judging(net, text, world, unseen(words.UNSEEN_FRAMES[0])),
        "another frame it never saw": judging(net, text, world, unseen(words.UNSEEN_FRAMES[1])),
        "a prompt with changed words": judging(net, text, world, form=changed),
    }  # fmt: skip
    out = {name: {key: mean_of(found, key) for key in ("auroc", "balanced_accuracy")} for name, found in asked.items()}
    absent = judging(net, text, world, lambda fact: ("Absence of " + words.inside(words.answer_of(fact)[0]), ""))
    out["absence of"] = {"auroc": round(1 - mean_of(absent), 3),
                         "balanced_accuracy": round(1 - mean_of(absent, "balanced_accuracy"), 3)}  # fmt: skip
    return out


def both_at_once(net: Any, text: Text, world: World, pairs: int = 15, seed: int = 4) -> dict[str, Any]:
    """Two findings in one concept: AUROC of pictures that have both against those that have one of them."""
    rng, areas = np.random.default_rng(seed), []
    named = np.flatnonzero(world.named)
    for _ in range(200 * pairs):
        if len(areas) == pairs:
            break
        a, b = rng.choice(named, 2, replace=False)
        both, one = world.f[:, a] & world.f[:, b], world.f[:, a] ^ world.f[:, b]
        if both.sum() < 10 or one.sum() < 10:
            continue
        rows = np.concatenate([rng.permutation(np.flatnonzero(side))[:30] for side in (both, one)])
        names = [words.answer_of(world.facts[k])[0] for k in (a, b)]
        p = probabilities(net, text, world, rows, prompts.judge("strict", words.framed("{x} and {y}", *names), ""))
        areas.append(roc_auc_score(both[rows], p))
    return {"pairs": len(areas), "auroc": round(float(np.mean(areas)), 3) if areas else None}


def unknown(net: Any, text: Text, world: World, seed: int = 5) -> dict[str, float]:
    """Share of Yes on the control descriptions that nothing in the training spoke of."""
    rows = np.random.default_rng(seed).choice(len(world.f), 40, replace=False)
    shares = [float((probabilities(net, text, world, rows, prompts.judge("strict", *pair)) >= 0.5).mean())
              for pair in prompts.RANDOM_CONCEPTS]  # fmt: skip
    return {"descriptions": len(shares), "yes": round(float(np.mean(shares)), 3), "most": round(max(shares), 3)}


@torch.inference_mode()
def written(net: Any, text: Text, world: World, sets: list[np.ndarray], asked: str, tokens: int = 60) -> list[str]:
    """Greedy replies, one a set."""
    out: list[str] = []
    for start in range(0, len(sets), 20):
        part = sets[start : start + 20]
        ids, mask = padded([text.prompt(len(rows), asked) for rows in part], left=True)
        features = world.z[np.concatenate(part)].to(net.dtype)
        reply = net.generate(
            input_ids=ids, attention_mask=mask, token_type_ids=(ids == net.config.image_token_id).long(),
            mm_encoder_outputs={"image": _Features(features)}, do_sample=False, max_new_tokens=tokens,
        )[:, ids.shape[1] :]  # fmt: skip
        out += text.processor.batch_decode(reply, skip_special_tokens=True)
    return out


def naming(net: Any, text: Text, world: World, sets: int = 1_000, seed: int = 2, paper: bool = False) -> dict[str, Any]:
    """Names of sets of unseen pictures: the share of valid JSON, of right concepts with their side, of right findings,
    of sets without a common fact that were told as such, and of sets that share a fact in at least 13 of 16."""
    many, top = (30, 15) if paper else (16, 10)
    teacher, rng = Teacher(world, text), np.random.default_rng(seed)
    chosen = [teacher.set_of(rng, many, top) for _ in range(sets)]
    replies = written(net, text, world, chosen, prompts.explain("paper" if paper else "strict", many, top))
    concepts = {words.answer_of(fact)[0]: fact for fact in world.facts} | {words.answer_of("nothing")[0]: "nothing"}
    count = dict.fromkeys(("valid", "shared", "same", "finding", "nothing", "nothing_right", "clear", "clear_same"), 0)
    for rows, reply in zip(chosen, replies, strict=True):
        said = parse_explanation(reply)
        fact, best = concepts.get(said.concept, "?"), shared(world, rows)
        count["valid"] += said.status == "ok"
        if best is None:
            count["nothing"] += 1
            count["nothing_right"] += fact == "nothing"
            continue
        right = world.facts[best]
        count["shared"] += 1
        count["same"] += fact == right
        count["finding"] += fact.partition(":")[0] == right.partition(":")[0]
        if world.f[rows, best].mean() >= 0.8:
            count["clear"] += 1
            count["clear_same"] += fact == right
    return {
        "sets": sets, "valid_json": _share(count["valid"], sets), "sets_that_share_a_fact": count["shared"],
        "same": _share(count["same"], count["shared"]), "finding": _share(count["finding"], count["shared"]),
        "sets_of_which_four_fifths_share_it": count["clear"],
        "same_of_these": _share(count["clear_same"], count["clear"]),
        "sets_that_share_nothing": count["nothing"], "told_so": _share(count["nothing_right"], count["nothing"]),
    }  # fmt: skip


def _share(count: int, of: int) -> float | None:
    return round(count / of, 3) if of else None


def listing(net: Any, text: Text, world: World, sets: int = 60, seed: int = 6) -> dict[str, Any]:
    """The published way of judging, five pictures a prompt: share of valid lists, balanced accuracy."""
    rng, valid, hits = np.random.default_rng(seed), 0, {True: [], False: []}
    for k in rng.choice(np.flatnonzero(world.named), sets):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(world.f[:, k] == side), n) for side, n in ((True, 3), (False, 2))]
        )
        rows = rng.permutation(rows)
        asked = prompts.judge("paper", *words.answer_of(world.facts[k]), 5)
        said = parse_verdicts(written(net, text, world, [rows], asked, 24)[0], 5)
        valid += said[0].status == "ok"
        for row, verdict in zip(rows, said, strict=True):
            truth = bool(world.f[row, k])
            hits[truth].append(verdict.yes == truth)
    return {"lists": sets, "valid": _share(valid, sets),
            "balanced_accuracy": round(float(np.mean([np.mean(hits[side]) for side in hits])), 3)}  # fmt: skip


def choosing(net: Any, text: Text, world: World, sets: int = 60, seed: int = 7) -> dict[str, Any]:
    """Intruder and rank, one of five: share of valid and of right answers (0.2 without looking)."""
    rng, out = np.random.default_rng(seed), {}
    for name in ("intruder", "rank"):
        asked_sets, right, texts = [], [], []
        for k in rng.choice(np.flatnonzero(world.named), sets):
            has = rng.choice(np.flatnonzero(world.f[:, k]), 4 if name == "intruder" else 1)
            lacks = rng.choice(np.flatnonzero(~world.f[:, k]), 5 - len(has))
            order = rng.permutation(5)
            asked_sets.append(np.concatenate([has, lacks])[order])
            right.append(int(np.flatnonzero(order == (4 if name == "intruder" else 0))[0]) + 1)
            texts.append(prompts.INTRUDER.format(pictures=5) if name == "intruder"
                         else prompts.rank(*words.answer_of(world.facts[k]), 5))  # fmt: skip
        said = [parse_choice(written(net, text, world, [rows], asked, 12)[0], 5)
                for rows, asked in zip(asked_sets, texts, strict=True)]  # fmt: skip
        out[name] = {"questions": sets, "valid": _share(sum(s is not None for s in said), sets),
                     "right": _share(sum(s == r for s, r in zip(said, right, strict=True)), sets)}  # fmt: skip
    return out


def record(net: Any, text: Text, world: World, tower: dict[str, float], probes: dict[str, float]) -> dict[str, Any]:
    """All numbers. tower: AUROC of each factor as the tower's head reads it; probes: simclip's."""
    net.eval()
    judge = judging(net, text, world, most=PER_SIDE)
    clear = [fact for fact, area in probes.items() if area >= PROBED and fact in judge]
    return {
        "pictures": len(world.f),
        "judge": {"mean_auroc": mean_of(judge), "facts": len(judge), "pictures_a_side": PER_SIDE,
                  "of_factors_that_simclip_tells": {
                      "factors": len(clear), "reached": sum(judge[fact]["auroc"] >= WANTED for fact in clear),
                      "missed": {fact: judge[fact]["auroc"] for fact in clear if judge[fact]["auroc"] < WANTED}},
                  "auroc": {fact: row["auroc"] for fact, row in sorted(judge.items(), key=lambda r: -r[1]["auroc"])}},
        "wordings": wordings(net, text, world), "two_findings": both_at_once(net, text, world),
        "unknown_descriptions": unknown(net, text, world),
        "naming": naming(net, text, world), "naming_paper": naming(net, text, world, 200, 3, paper=True),
        "lists": listing(net, text, world), "choices": choosing(net, text, world),
        "tower_auroc": tower,
        "cannot_see": sorted(fact for fact, there in zip(world.facts, world.named, strict=True)
                             if not there and not fact.startswith("label:")),
        "names": {words.answer_of(fact)[0]: fact for fact, there in zip(world.facts, world.named, strict=True) if there}
                 | {words.answer_of("nothing")[0]: ""},
    }  # fmt: skip
