from sizemix.diagnosis.finding import Finding, carried_out
from sizemix.errors import UserError


def looked(*, error=None):
    yield Finding("first", "is well")
    if error is not None:
        raise error
    return 7


def test_a_check_gives_its_findings_and_its_result():
    found = []
    assert carried_out(looked(), found, subject="it") == 7
    assert found == [Finding("first", "is well")]


def test_a_users_mistake_is_a_problem_and_what_was_found_before_stays():
    found = []
    assert carried_out(looked(error=UserError("expected a, got b; use a.")), found, subject="it") is None
    assert [finding.verdict for finding in found] == ["ok", "problem"]
    assert (found[1].subject, found[1].remedy) == ("it", "expected a, got b; use a.")


def test_a_check_that_fails_says_with_what():
    found = []
    carried_out(looked(error=RuntimeError("no kernel\n  image")), found, subject="it")
    assert found[1].verdict == "problem"
    assert "RuntimeError: no kernel image" in found[1].remedy
