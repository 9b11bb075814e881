"""The sample of dead letters."""

import json
import random

from pipeline.corpus.dead_letters import EXAMPLES, examples


def letters(rule: str, number: int) -> list[bytes]:
    return [json.dumps({"id": f"s/{rule}#{n}", "rule": rule, "error": f"error {n}"}).encode() for n in range(number)]


def test_a_few_of_each_rule_the_same_in_any_order() -> None:
    lines = letters("empty", 2) + letters("too-short", 200)
    drawn = examples(lines)
    assert {rule: len(found) for rule, found in drawn.items()} == {"empty": 2, "too-short": EXAMPLES}
    numbers = [int(found.rpartition(" ")[2]) for found in drawn["too-short"]]
    assert max(numbers) > 20, "not the first ones, but from everywhere"
    random.Random(0).shuffle(lines)
    assert examples(lines) == drawn
    assert set(drawn["too-short"]) <= set(examples(letters("too-short", 100))["too-short"]) | {
        f"s/too-short#{n}: error {n}" for n in range(100, 200)
    }


def test_nothing_that_a_terminal_would_obey_is_shown() -> None:
    line = json.dumps({"id": "a\x1b[31m", "rule": "r", "error": "x\ny [bold]"}).encode()
    assert examples([line]) == {"r": ["a\ufffd[31m: x\ufffdy [bold]"]}
    assert examples([]) == {}
