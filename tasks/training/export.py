"""Writing a trained model as it will be served, with all that is to be known about it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from tasks import modalities
from tasks.contracts.model_info import ModelInfo
from tasks.modalities import lora
from tasks.modalities.base import ModelTrainer, Predictor
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder
from tasks.training import distributed


@contextlib.contextmanager
def model_folder(target: ModelFolder) -> Iterator[ModelFolder]:
    """Yield a temporary folder that becomes `target` once it is complete.

    Only the first process has one; the others get `target`, and write nothing.
    """
    if distributed.rank() > 0:
        yield target
        return
    with files.atomic_folder(target.path) as temporary:
        yield ModelFolder(temporary)
        files.make_readable(temporary)


class ModelExport:
    """A model that is being written: its files, and what model.json will say at the end."""

    def __init__(self, recipe: Recipe, adapter: ModelTrainer, folder: ModelFolder) -> None:
        self.recipe = recipe
        self.adapter = adapter
        self.folder = folder
        self.noted_info: ModelInfo | None = None

    @property
    def info(self) -> ModelInfo:
        """What is known about the model so far."""
        if self.noted_info is None:
            raise ValueError("the model has not been written yet")
        return self.noted_info

    def note(self, **values: object) -> None:
        """Note fields of model.json."""
        self.noted_info = self.info.model_copy(update=values)

    def write(self) -> None:
        """Write the weights and the exported model, and begin its info anew.

        All processes have the same weights; the first one writes them.
        """
        network = self.adapter.network
        lora.merge_lora_layers(network)
        if distributed.rank() > 0:
            return
        with self.adapter.problem.prepare_for_export(network):
            model_input = self.adapter.export(self.folder.path)
        loaded_by = self.adapter.save_weights(self.folder.path)
        weights = network.state_dict()
        names = [name for name, _ in network.named_parameters() if name in weights]
        self.noted_info = ModelInfo(
            problem=self.recipe.problem,
            labels=self.adapter.labels,
            parameters=sum(weights[name].numel() for name in names),
            base=self.recipe.train.base,
            input=modalities.complete_input(self.recipe, model_input),
            loaded_by=loaded_by,
            input_signature=self.adapter.input_signature(),
            train=self.recipe.train.model_dump(mode="json"),
            warnings=list(self.adapter.warnings) or None,
        )

    def open(self, threads: int = 2) -> Predictor:
        """Open the exported model as it is now."""
        return modalities.open_predictor(self.folder.path, self.info, threads)

    def write_info(self) -> None:
        """Write model.json."""
        self.info.write(self.folder.info)


def write_trained_on(path: Path, ids: Sequence[str], before: Path | None = None) -> None:
    """Write hashes of the ids of the rows that a model was trained on.

    They tell which models an erased row went into.

    Args:
        path: The file to write.
        ids: The ids of the training rows.
        before: The same file of the champion that this model started or learnt from; its rows
            count too.
    """
    hashes = {hashing.hash_row_id(row_id) for row_id in ids}
    if before:
        hashes.update(files.read_table(before)["id"].to_pylist())
    column = pa.array(sorted(hashes), pa.binary(8))
    files.write_table(path, pa.table({"id": column}))
