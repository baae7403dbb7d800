"""Warnings of third parties while they are imported and used for the first time.

Marks for modules that run whole jobs; elsewhere warnings are errors.
"""

import pytest

WARNS = [
    pytest.mark.filterwarnings(f"ignore{which}")
    for which in (
        "::DeprecationWarning",
        "::PendingDeprecationWarning",
        "::FutureWarning",
        "::ResourceWarning",
        # MLflow's advice on type hints of models that are not ours.
        ":.*[Tt]ype hint:UserWarning",
        "::pytest.PytestUnraisableExceptionWarning",
    )
]
