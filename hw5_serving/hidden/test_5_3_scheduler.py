"""Task 5.3, hidden: every plan of random runs is the one right plan; the engine under pressure."""

from __future__ import annotations

from collections import Counter

import drivers_engine as drivers
import engine_cases as cases
import scheduling_cases as scheduling
from gradescope_utils.autograder_utils.decorators import number, weight


class Exact(scheduling.Watched):
    """Compares with the plan that follows from queues, tables and budget."""

    def check_plan(self, plan, preempted, tables):
        super().check_plan(plan, preempted, tables)
        wanted, gone = self.right_plan({n: first for n, first, _ in plan}, tables)
        assert (plan, preempted) == (wanted, gone), (
            f"plan {plan}, preempted {preempted}; right: {wanted}, preempted {gone}; running "
            f"{self.running}, waiting {self.waiting}, {self.free} blocks free"
        )

    def right_plan(self, begins, after):
        """begins, after: where requests begin, their tables then: what only the cache knows."""
        size, left, free = self.config["block_size"], self.config["token_budget"], self.free
        tables = {n: list(t) for n, t in self.tables.items()}
        held = Counter(block for table in tables.values() for block in table)
        line, wanted, gone = list(self.running), [], []

        def lacking(number, reach):
            return -(-reach // size) - len(tables[number])

        for name in self.running:
            if name not in line or not left:
                continue
            request = self.requests[name]
            lag = len(request.text) - request.computed
            count = min(left, lag + len(request.guesses))
            if lacking(name, request.computed + count) > free:
                count = min(left, lag)
                if request.guesses:
                    request.guesses = []
            while name in line and lacking(name, request.computed + count) > free:
                last = line.pop()
                held.subtract(tables[last])
                free += sum(held[block] == 0 for block in tables[last])
                gone.append(last)
            if name in line:
                free -= max(0, lacking(name, request.computed + count))
                wanted.append((name, request.computed, count))
                left -= count
        for name in self.waiting if not gone else ():
            request = self.requests[name]
            first = begins.get(name, 0)
            count = min(left, len(request.text) - first)
            if not left or len(line) == self.config["max_sequences"]:
                break
            # Behind a cached prefix a chunk reaches further, up to the whole text.
            reach = len(request.text) if self.config["prefix_caching"] else count
            if name not in begins and -(-reach // size) > free:
                break
            line.append(name)
            wanted.append((name, first, count))
            left -= count
            taken = after.get(name, [None] * -(-(first + count) // size))
            free -= sum(held[block] == 0 for block in taken)
            held.update(taken)
        return wanted, gone


def played(student, rng, operations, **config):
    """Random operations under an exact look."""
    watched = Exact(student, **config)
    scheduling.play(watched, rng, operations)
    watched.run()
    assert watched.free == config["num_blocks"] and watched.answers, "blocks are still held"
    return watched


@number("5.3")
@weight(1.6)
def test_the_one_right_plan_without_a_cache(student, rng):
    """Small pools, small budgets, one place, blocks of one token."""
    gone = 0
    for blocks, size, budget, places in (
        (9, 3, 6, 4),
        (30, 1, 40, 8),
        (16, 2, 5, 1),
        (8, 4, 64, 9),
    ):
        gone += played(student, rng, 120, num_blocks=blocks, block_size=size, token_budget=budget,
                       max_sequences=places).preempted  # fmt: skip
    assert gone, "nobody was preempted: a fault of this test"


@number("5.3")
@weight(1.4)
def test_the_one_right_plan_with_shared_prefixes(student, rng):
    """Blocks shared, evicted and cleared while requests are preempted and guess."""
    hits = 0
    for blocks, size, budget, places in ((12, 4, 16, 6), (25, 2, 9, 4), (40, 1, 30, 9)):
        hits += played(student, rng, 150, num_blocks=blocks, block_size=size, token_budget=budget,
                       max_sequences=places, prefix_caching=True).hits  # fmt: skip
    assert hits, "nothing was found in the cache: a fault of this test"


@number("5.3")
@weight(1.8)
def test_a_small_engine_under_pressure(student, rng):
    """Requests come at any step and are aborted at any; a pool that is always too small."""
    weights = cases.drawn_weights(rng, cases.SIZES)
    stems = [rng.integers(0, 31, 9).tolist() for _ in range(2)]
    for caching, size, blocks in ((True, 3, 14), (False, 1, 36), (True, 16, 3)):
        config = {"block_size": size, "num_blocks": blocks, "token_budget": 11, "max_sequences": 5,
                  "prefix_caching": caching}  # fmt: skip
        events, kept, count, refused = [], {}, 0, []
        for at in range(18):
            if at % 4 == 3:
                chosen = int(rng.integers(count))
                events.append({"at": at, "abort": chosen})
                continue
            prompt = (
                stems[at % 2] * (at % 3 < 2) + rng.integers(0, 31, int(rng.integers(1, 9))).tolist()
            )
            prompt = prompt * 4 if at == 6 else prompt
            sampling = {"max_new_tokens": int(rng.integers(2, 14)), "stop_ids": [5] * (at % 2)}
            events.append({"at": at, "prompt": prompt, "sampling": sampling})
            if len(prompt) + sampling["max_new_tokens"] - 1 > size * blocks:
                refused.append(count)
            else:
                kept[count] = events[-1]
            count += 1
        got = student.run(
            drivers.served, sizes=cases.SIZES, weights=weights, config=config, events=events
        )
        assert got["refused"] == refused, f"refused {got['refused']}, expected {refused}"
        for chosen, found in got["aborts"]:
            if found:
                kept.pop(chosen, None)
        alone = cases.all_alone(cases.SIZES, weights, kept)
        cases.check_answers(got["answers"], alone, f"{blocks} blocks of {size}")
        cases.check_engine_plans(got["plans"], got["preempted"], config)
        assert got["end"] == blocks, f"{got['end']} blocks are free at the end, of {blocks}"
