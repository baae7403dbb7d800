"""What a command tells of an error that ends it: words for what is expected, and no trace."""

from mlops_assets.errors import MlopsAssetsError


def in_words(error: Exception) -> str | None:
    """What is told of an error; None of one that nobody expects.

    Of settings that do not fit the value is not shown: the address of a channel is a secret.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    if isinstance(error, MlopsAssetsError):
        return str(error)
    # Known by its name: to import MLflow for an error of settings takes seconds.
    if any(kind.__name__ == "MlflowException" for kind in type(error).__mro__):
        return (
            f"the model registry does not answer as it should: {error}\n"
            "  expected: MLflow at MLOPS_TRACKING_URI, or in the home\n"
            "  to do: see that it runs, and repeat the command"
        )
    if isinstance(error, ValidationError):
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in wrong)
    elif isinstance(error, SettingsError):
        found = str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    else:
        return None
    return (
        f"settings or options that do not fit: {found}\n"
        "  expected: what `mlops_assets/settings.py` and --help say\n"
        "  to do: correct the option, or the variable MLOPS_... of that name"
    )
