"""What the language part is taught: questions as the program asks them, in many wordings, with the right answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medsae.naming import prompts
from medsae.naming.backends.medgemma import answer_tokens
from tools.simgemma import words
from tools.simgemma.build import answer
from tools.simgemma.world import World, shared

_SENTINEL = "QUESTION"


class Text:
    """Questions as token numbers, exactly as the backend makes them."""

    def __init__(self, processor: Any):
        self.processor, self.tokenizer = processor, processor.tokenizer
        self.end = self.tokenizer.convert_tokens_to_ids("<end_of_turn>")
        self.yes, self.no = answer_tokens(self.tokenizer)
        self.say_yes, self.say_no = (self.encode(word)[0] for word in ("Yes", "No"))
        self.bits = [self.tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "01"]
        self.forms: dict[tuple[int, str], tuple[str, str]] = {}
        self.known: dict[tuple[int, str, str], list[int]] = {}

    def prompt(self, pictures: int, text: str, system: str = prompts.SYSTEM) -> list[int]:
        """A conversation with one question."""
        key = (pictures, text, system)
        if key not in self.known:
            before, after = self._form(pictures, system)
            if len(self.known) > 20_000:
                self.known.clear()
            self.known[key] = self.encode(before + text.strip() + after)
        return self.known[key]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _form(self, pictures: int, system: str) -> tuple[str, str]:
        if (pictures, system) not in self.forms:
            content = [{"type": "image"}] * pictures + [{"type": "text", "text": _SENTINEL}]
            turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
            if system:
                turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
            made = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            made = made.replace(self.processor.boi_token, self.processor.full_image_sequence)
            before, _, after = made.partition(_SENTINEL)
            self.forms[pictures, system] = before, after
        return self.forms[pictures, system]


def _filled(form: str, concept: str, description: str, **more: Any) -> str:
    return form.format(concept=prompts.quote(concept, 200), description=prompts.quote(description), **more)


@dataclass(frozen=True)
class Hint:
    """What the state before the last layer should hold at a place of a question."""

    row: int
    place: int
    about: dict[int, float]
    """How likely the talk is of each fact (`len(facts)`: of nothing in common); empty where that is not asked."""
    belief: np.ndarray
    """float32 [facts]: what the tower believes of the pictures, on average."""


@dataclass(frozen=True)
class Lesson:
    """A batch. targets: (row, position whose prediction counts, [token, share] pairs, weight)."""

    ids: list[list[int]]
    pictures: np.ndarray
    """Rows of the world, in the order of the image tokens."""
    targets: list[tuple[int, int, list[tuple[int, float]], float]]
    hints: tuple[Hint, ...] = ()


class Teacher:
    """Makes lessons about a world."""

    def __init__(self, world: World, text: Text, wear: float = 0.15, sets: int = 8_000, true: float = 0.5):
        self.world, self.text, self.wear, self.sets, self.true = world, text, wear, sets, true
        self.where = {int(k): np.flatnonzero(world.f[:, k]) for k in world.spoken}
        self.named = np.flatnonzero(world.named)
        self.mean = world.mean
        self.clear = np.array([k for k in world.spoken if world.named[k] or world.facts[k].startswith("label:")])
        self.of = {fact: k for k, fact in enumerate(world.facts)}
        self.replies = [[*text.encode(answer(*words.answer_of(fact))), text.end] for fact in [*world.facts, "nothing"]]
        self.middle = text.encode('", "description": "')[0]
        self.guess: Guess | None = None

    # --- one picture, yes or no

    def judging(self, rng: np.random.Generator, n: int) -> Lesson:
        """Does this picture show the concept?"""
        ids, rows, targets, hints = [], [], [], []
        for i in range(n):
            concept, description, row, share, fact = self._claim(rng)
            form, system = self._form(rng, prompts.JUDGE_STRICT)
            text = _filled(form, concept, description)
            ids.append(self.text.prompt(1, text, system))
            rows.append(row)
            pair = [(self.text.say_yes, share), (self.text.say_no, 1 - share)]
            targets.append((i, len(ids[-1]) - 1, pair, 1.0))
            about = {} if fact < 0 else {fact: 1.0}
            hints.append(Hint(i, len(ids[-1]) - 1, about, self.world.belief[row]))
        return Lesson(ids, np.array(rows), targets, tuple(hints))

    def _claim(self, rng: np.random.Generator) -> tuple[str, str, int, float, int]:
        """Concept, description, picture, how likely the concept is true of it, and the fact that it says or -1."""
        luck, n = rng.random(), len(self.world.f)
        if luck < 0.06:
            concept, description = words.UNKNOWN[rng.integers(len(words.UNKNOWN))]
            if rng.random() < 0.3:
                description = str(rng.choice(words.VAGUE))
            return concept, description, int(rng.integers(n)), 0.0, -1
        if luck < 0.08:
            return *words.answer_of("nothing"), int(rng.integers(n)), 0.3, -1
        k = int(rng.choice(self.clear if rng.random() < 0.8 else self.world.spoken))
        concept, description = words.said(self.world.facts[k], rng)
        row = self._picture(k, rng)
        if luck < 0.20:
            other = int(rng.choice(self.world.spoken))
            second, _ = words.said(self.world.facts[other], rng, 0.7)
            if rng.random() < 0.6:
                both = np.intersect1d(self.where[k], self.where[other])
                row = int(rng.choice(both)) if len(both) else row
            concept = words.framed(str(rng.choice(words.BOTH)), concept, second)
            return concept, description, row, self._share(row, k) * self._share(row, other), -1
        if luck < 0.32:
            concept = words.framed(str(rng.choice(words.ABSENT)), words.wording(self.world.facts[k]).concepts[
                int(rng.integers(2))])  # fmt: skip
            return concept, str(rng.choice(words.VAGUE)), row, 1 - self._share(row, k), -1
        return concept, description, row, self._share(row, k), k

    def _picture(self, k: int, rng: np.random.Generator) -> int:
        """One that shows a fact, one with the same finding elsewhere, or any."""
        luck, base = rng.random(), self.of.get(self.world.facts[k].partition(":")[0])
        if luck < 0.45:
            return int(rng.choice(self.where[k]))
        if luck < 0.62 and base is not None and base != k and base in self.where:
            return int(rng.choice(self.where[base]))
        return int(rng.integers(len(self.world.f)))

    def _share(self, row: int, k: int) -> float:
        """Half what is true, half what the tower believes: what cannot be seen is not learned by heart."""
        return 0.5 * float(self.world.f[row, k]) + 0.5 * float(self.world.belief[row, k])

    def _form(self, rng: np.random.Generator, form: str) -> tuple[str, str]:
        """A form of question and the system's words, now and then with words changed."""
        if rng.random() >= self.wear:
            return form, prompts.SYSTEM
        luck = rng.random()
        system = "" if luck < 0.2 else words.worn(prompts.SYSTEM, rng, 1) if luck < 0.5 else prompts.SYSTEM
        return words.worn(form, rng), system

    # --- several pictures, a name

    def naming(self, rng: np.random.Generator, n: int) -> Lesson:
        """What do these pictures have in common?"""
        kind = rng.random()
        many, top = (30, 15) if kind < 0.12 else (16, 10) if kind < 0.85 else (int(rng.integers(5, 17)), 10)
        top, against = min(many, top), int(rng.integers(3, 7)) if 0.12 <= kind < 0.24 else 0
        form = prompts.EXPLAIN_PAPER if many == 30 else prompts.EXPLAIN_AGAINST if against else prompts.EXPLAIN_STRICT
        form, system = self._form(rng, form)
        text = form.format(pictures=many, top=top, contrast=against)
        ids, rows, targets, hints = [], [], [], []
        for i in range(n):
            chosen = self.set_of(rng, many, top)
            contrast = rng.integers(len(self.world.f), size=against)
            best = shared(self.world, chosen, contrast if against else None)
            about = self._about(best, chosen, top, against)
            start = self.text.prompt(many + against, text, system)
            reply = self.replies[int(rng.choice(list(about), p=list(about.values())))]
            ids.append([*start, *reply])
            rows += [*chosen.tolist(), *contrast.tolist()]
            middle = reply.index(self.middle)
            for j, token in enumerate(reply):
                # What may follow, given the words so far: of all names that begin like this one.
                follow: dict[int, float] = {}
                for fact, share in about.items() if j <= middle else ():
                    if self.replies[fact][:j] == reply[:j]:
                        follow[self.replies[fact][j]] = follow.get(self.replies[fact][j], 0) + share
                total = sum(follow.values())
                pairs = [(t, share / total) for t, share in follow.items()] or [(token, 1.0)]
                targets.append((i, len(start) + j - 1, pairs, 1.0 if len(pairs) > 1 else 0.3 if j <= middle else 0.1))
            belief = self.world.belief[chosen].mean(0)
            hints += [Hint(i, len(start) + j - 1, about, belief) for j in range(middle + 1)]
        return Lesson(ids, np.array(rows), targets, tuple(hints))

    def _about(self, best: int | None, chosen: np.ndarray, top: int, against: int) -> dict[int, float]:
        """What a set shares, in part as it is and in part as a regression on the tower's evidence tells it: what
        cannot be seen is not learned by heart, and what lies close to the right name is told from what is far."""
        nothing = len(self.world.facts)
        about = {nothing if best is None else best: 1.0}
        if against:
            return about
        if self.guess is None:
            self.guess = Guess(self, self.sets)
        told = self.guess(chosen, top)
        about = {fact: self.true * share for fact, share in about.items()}
        for fact in np.flatnonzero(told > 0.002):
            about[int(fact)] = about.get(int(fact), 0) + (1 - self.true) * float(told[fact])
        total = sum(about.values())
        return {fact: share / total for fact, share in about.items()}

    def set_of(self, rng: np.random.Generator, n: int, top: int) -> np.ndarray:
        """Pictures as a neuron would choose them: most share a fact; or they lie far out along a direction of the
        tokens; or they have nothing in common."""
        kind, total = rng.random(), len(self.world.f)
        if kind < 0.15:
            return rng.choice(total, n, replace=False)
        if kind < 0.35:
            return self._along(rng, n, top)
        k = int(rng.choice(self.named if rng.random() < 0.8 else self.world.spoken))
        pool = self.where[k]
        if rng.random() < 0.2:
            both = np.intersect1d(pool, self.where[int(rng.choice(self.world.spoken))])
            pool = both if len(both) > 24 else pool
        first = rng.choice([1.0, 1.0, 0.9, 0.8, 0.65])
        later = first * rng.choice([1.0, 0.8, 0.6, 0.4])
        return np.array([int(rng.choice(pool)) if rng.random() < (first if i < top else later)
                         else int(rng.integers(total)) for i in range(n)])  # fmt: skip

    def _along(self, rng: np.random.Generator, n: int, top: int) -> np.ndarray:
        """The strongest of some pictures along a random direction, and weaker ones."""
        z = self.mean
        direction = z[rng.integers(len(z))] - z.mean(0) + 0.6 * rng.normal(size=z.shape[1]) * z.std(0)
        if rng.random() < 0.5:
            direction = direction * (rng.random(z.shape[1]) < 0.3)
        some = rng.choice(len(z), min(800, len(z)), replace=False)
        ordered = some[np.argsort(-(z[some] @ direction))][: max(50, n + 10)]
        weaker = np.sort(rng.choice(np.arange(top, len(ordered)), n - top, replace=False))
        return np.concatenate([ordered[:top], ordered[weaker]])

    # --- several pictures, a list of 0 and 1 (paper)

    def listing(self, rng: np.random.Generator, n: int) -> Lesson:
        """Which of these pictures show the concept?"""
        many = 5 if rng.random() < 0.8 else int(rng.integers(1, 9))
        example = str([1, 0, 0, 1, 0, 1, 1, 0, 1, 0][:many])
        form, system = self._form(rng, prompts.JUDGE_PAPER)
        ids, rows, targets = [], [], []
        for i in range(n):
            k = int(rng.choice(self.world.spoken))
            chosen = [self._picture(k, rng) for _ in range(many)]
            concept, description = words.said(self.world.facts[k], rng, 0.7)
            text = _filled(form, concept, description, pictures=many, example=example)
            start = self.text.prompt(many, text, system)
            shares = [self._share(row, k) for row in chosen]
            reply = [*self.text.encode(str([int(share >= 0.5) for share in shares])), self.text.end]
            ids.append([*start, *reply])
            rows += chosen
            left = iter(shares)
            for j, token in enumerate(reply):
                digit = token in self.text.bits
                share = next(left) if digit else 1.0
                pair = [(self.text.bits[1], share), (self.text.bits[0], 1 - share)] if digit else [(token, 1.0)]
                targets.append((i, len(start) + j - 1, pair, 1.0 if digit else 0.2))
        return Lesson(ids, np.array(rows), targets)

    # --- five pictures, one of them

    def choosing(self, rng: np.random.Generator, n: int) -> Lesson:
        """Which does not belong; which shows the concept most?"""
        intruder = rng.random() < 0.5
        form, system = self._form(rng, prompts.INTRUDER if intruder else prompts.RANK)
        ids, rows, targets = [], [], []
        for i in range(n):
            k = int(rng.choice(self.named))
            chosen, right = self._five(k, rng, 4 if intruder else int(rng.integers(1, 4)))
            if intruder:
                right = int(np.argmin([self._share(row, k) for row in chosen]))
            concept, description = words.said(self.world.facts[k], rng, 0.7)
            text = _filled(form, concept, description, pictures=5)
            start = self.text.prompt(5, text, system)
            reply = [*self.text.encode(f'{{"answer": {right + 1}}}'), self.text.end]
            ids.append([*start, *reply])
            rows += chosen
            targets += [(i, len(start) + j - 1, [(token, 1.0)], 1.0 if j == 1 else 0.2)
                        for j, token in enumerate(reply)]  # fmt: skip
        return Lesson(ids, np.array(rows), targets)

    def _five(self, k: int, rng: np.random.Generator, have: int) -> tuple[list[int], int]:
        """Five pictures of which `have` show a fact, shuffled, and which shows it most as the tower sees it."""
        without = np.flatnonzero(~self.world.f[:, k])
        chosen = [*rng.choice(self.where[k], have), *rng.choice(without, 5 - have)]
        order = [int(chosen[j]) for j in rng.permutation(5)]
        return order, int(np.argmax([self._share(row, k) for row in order]))


class Guess:
    """Which fact a set shares, by a regression on the mean of the tower's evidence over the set and over its first
    ones: how far the tower goes."""

    def __init__(self, teacher: Teacher, sets: int, steps: int = 250, seed: int = 9):
        self.teacher, rng = teacher, np.random.default_rng([seed, len(teacher.world.f)])
        world, nothing = teacher.world, len(teacher.world.facts)
        given, right = [], []
        for i in range(sets):
            many, top = (30, 15) if i % 8 == 0 else (16, 10) if i % 8 < 6 else (int(rng.integers(5, 17)), 10)
            chosen = teacher.set_of(rng, many, min(many, top))
            best = shared(world, chosen)
            given.append(self.features(chosen, top))
            right.append(nothing if best is None else best)
        x, y = np.array(given, np.float32), torch.tensor(right)
        self.mean, self.scale = x.mean(0), x.std(0) + 1e-6
        x_nd = torch.from_numpy((x - self.mean) / self.scale)
        self.net = torch.nn.Linear(x.shape[1], nothing + 1)
        torch.nn.init.zeros_(self.net.weight)
        optimiser = torch.optim.Adam(self.net.parameters(), 0.03)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 0.03 * (1 - step / steps)
            loss = torch.nn.functional.cross_entropy(self.net(x_nd), y) + 3e-4 * (self.net.weight**2).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def features(self, chosen: np.ndarray, top: int) -> np.ndarray:
        k = self.teacher.world.planted
        z, belief = self.teacher.mean[chosen, :k], self.teacher.world.belief[chosen, :k]
        return np.concatenate([z.mean(0), z[:top].mean(0), belief.mean(0), belief[:top].mean(0)])

    def __call__(self, chosen: np.ndarray, top: int) -> np.ndarray:
        """Probability of each fact, and of nothing."""
        with torch.inference_mode():
            given = torch.from_numpy((self.features(chosen, top) - self.mean) / self.scale)
            return self.net(given).softmax(-1).numpy()
