"""What a check finds, and how a check that fails becomes a finding."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, TypeVar

from sizemix.errors import UserError

Verdict = Literal["ok", "warning", "problem"]
Result = TypeVar("Result")

Check = Generator["Finding", None, Result]  # yields findings, returns what later checks build on


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at, in a word or two.
        text: what was found.
        verdict: ok, warning (a run works, but not as well as it could) or problem (a run fails).
        remedy: a sentence that says what to do; None where all is well.
    """

    subject: str
    text: str
    verdict: Verdict = "ok"
    remedy: str | None = None


def carried_out(check: Check[Result], findings: list[Finding], *, subject: str) -> Result | None:
    """Runs a check to its end or to its failure, which is a finding too and ends nothing else.

    Args:
        check: the check.
        findings: gets what the check finds.
        subject: what a failure is about.

    Returns:
        What the check returned; None if it failed.
    """
    try:
        while True:
            findings.append(next(check))
    except StopIteration as end:
        result: Result = end.value
        return result
    except UserError as error:
        findings.append(Finding(subject, "cannot be used, see below", "problem", str(error)))
    except Exception as error:  # a check is about what may be broken, so anything may come
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        remedy = f"expected the check to end, got {reason}; mend what this names, as training may fail likewise."
        findings.append(Finding(subject, "the check failed, see below", "problem", remedy))
    return None
