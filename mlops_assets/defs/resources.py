"""Resources: how an asset gets the platform's stores.

A resource hands out a plain domain object, so that nothing behind it knows Dagster.
"""

import dagster as dg

from mlops_assets.platform import Platform
from mlops_assets.settings import Settings


@dg.resource(description="The stores of the home that the environment names.")
def platform() -> Platform:
    """Open the platform; its stores connect when they are used."""
    return Platform(Settings())
