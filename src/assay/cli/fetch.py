"""`assay fetch`: bring a model from the hub into its cache on this machine. No other verb downloads anything."""

from __future__ import annotations

import sys

from assay.cli.settings import ConfigFile, settings
from assay.errors import BadInput
from assay.models.hub_fetch import fetch as fetched
from assay.models.hub_fetch import wanted
from assay.models.open import named_on_hub


def fetch(model: str, /, *, config: ConfigFile = None) -> int:
    """Fetch a model from the hub into its cache, and print where it lies. What is there already is not fetched again.

    Parameters
    ----------
    model
        org/name, org/name@REVISION, llama:org/name:QUANT (such as Q4_K_M) or :FILE; or a model of assay.toml.
    """
    spec = settings(config, None).model(model).spec
    engine, name = named_on_hub(spec)
    if name is None:
        raise BadInput(f"{spec} is no hub's id; name one, such as org/name or llama:org/name:Q4_K_M")
    files = wanted(name, engine)
    print(files.about, file=sys.stderr)
    print(fetched(files))
    return 0
