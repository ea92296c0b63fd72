"""A model under an adapter that the command line named: what is wrong with either is the user's mistake."""

from __future__ import annotations

from assay.adapters.fit import in_full
from assay.errors import BadInput, CheckpointError
from assay.models.base import AdapterModel, TextModel
from assay.types import Adapter


async def attach(base: TextModel, adapter: Adapter) -> TextModel:
    """The base under the adapter. Raises `BadInput` where it takes none, or not this one: then with every difference."""
    if not isinstance(base, AdapterModel):
        raise BadInput(f"{base.info.name} can't be given adapters; name a local model")
    try:
        return await base.attach(adapter)
    except CheckpointError as error:
        raise BadInput(in_full(error)) from error
