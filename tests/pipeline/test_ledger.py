import pytest

from if_factory.pipeline.ledger import Ledger, LedgerError


def balanced() -> Ledger:
    ledger = Ledger(["compose", "respond"])
    seeds, compose, respond = ledger.rows
    seeds.taken, seeds.advanced, seeds.produced = 4, 3, 3
    seeds.dropped["duplicate_seed"] = 1
    compose.taken, compose.advanced, compose.produced = 3, 3, 6
    respond.taken, respond.advanced, respond.produced, respond.unfinished = 6, 4, 4, 1
    respond.dropped["truncated"] = 1
    return ledger


def test_a_balanced_ledger_passes_and_survives_json():
    ledger = balanced()
    ledger.check()
    again = Ledger.from_dict(ledger.to_dict())
    again.check()
    assert again.to_dict() == ledger.to_dict()
    assert again["respond"].dropped["truncated"] == 1


@pytest.mark.parametrize("field", ["taken", "advanced", "unfinished"])
def test_a_record_lost_or_invented_inside_a_stage_is_an_error_that_names_the_stage(field):
    ledger = balanced()
    row = ledger["respond"]
    setattr(row, field, getattr(row, field) + 1)
    with pytest.raises(LedgerError, match="respond"):
        ledger.check()


def test_a_record_lost_between_stages_is_an_error_that_names_both():
    ledger = balanced()
    ledger["compose"].produced += 1
    with pytest.raises(LedgerError, match=r"'compose' produced 7 .* 'respond' took 6"):
        ledger.check()


def test_two_stages_of_one_name_are_refused():
    with pytest.raises(ValueError, match="differ"):
        Ledger(["respond", "respond"])


def test_reasons_are_sorted_whatever_came_first():
    a, b = Ledger(["s"]), Ledger(["s"])
    a["s"].dropped.update(["x", "a"])
    b["s"].dropped.update(["a", "x"])
    assert str(a.to_dict()) == str(b.to_dict())
