"""How pages are made of templates: what is missing in one is an error, what is text is escaped."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def environment() -> "jinja2.Environment":
    """An environment of its own, which finds the templates that lie beside this file."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("mlops_assets.core", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
