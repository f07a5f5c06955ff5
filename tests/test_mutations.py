"""Wrong inputs of every kind get an answer: a result or one sentence, no traceback, no hang, no changed file."""

from mutations import run


def test_a_share_of_the_wrong_inputs_is_answered_in_a_sentence():
    """`python tests/mutations.py` runs all 2,500 of them."""
    tried, misses = run(0.06)
    assert sum(tried.values()) > 100
    assert [f"{case.family}: {case.said}: {wrong}" for case, wrong in misses] == []
