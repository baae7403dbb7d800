"""Errors that end a command are told in words, those that nobody expects with their trace."""

from mlops_assets.commands.failure import in_words


class MlflowException(Exception):  # noqa: N818
    """Stands for MLflow's own, which is known by its name."""


def test_a_registry_that_does_not_answer_is_told_in_words() -> None:
    told = in_words(MlflowException("database is locked"))
    assert told is not None
    assert told.startswith("the model registry does not answer as it should: database is locked")


def test_an_error_that_nobody_expects_keeps_its_trace() -> None:
    assert in_words(KeyError("a")) is None
