"""Data that an installed package carries: botocore's documentation, scikit-learn's data sets."""

import importlib.metadata
import io
from collections.abc import Iterator

import pyarrow as pa

from tasks.recipe.ingest import PackageSource
from tasks.sources.base import RowBatch, SourcePartition

GREY_PER_LEVEL = 15  # the digits have levels 0 to 16, a PNG has 0 to 255


def iter_partitions(source: PackageSource) -> Iterator[SourcePartition]:
    """Yield the one data set, whose version is that of its package."""
    distribution = "scikit-learn" if source.name.startswith("sklearn.") else source.name

    def read() -> list[RowBatch]:
        rows = list(READERS[source.name]())
        return [RowBatch(source.name, pa.Table.from_pylist(rows))]

    yield SourcePartition(source.name, importlib.metadata.version(distribution), read)


def read_botocore_operations() -> Iterator[dict[str, object]]:
    """Yield the operations of AWS's services, with their documentation as HTML."""
    import botocore.loaders

    loader = botocore.loaders.Loader()
    for service in sorted(loader.list_available_services("service-2")):
        operations = loader.load_service_model(service, "service-2")["operations"]
        for name, operation in sorted(operations.items()):
            yield {
                "id": f"{service}.{name}",
                "service": service,
                "operation": name,
                "text": operation.get("documentation", ""),
            }


def read_digits() -> Iterator[dict[str, object]]:
    """Yield 1,797 handwritten digits of 8×8 pixels as greyscale PNG.

    Source: UCI, Alpaydin and Kaynak 1998.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for index, (levels, label) in enumerate(zip(data.images, data.target, strict=True)):
        buffer = io.BytesIO()
        pixels = (levels * GREY_PER_LEVEL).astype("uint8")
        Image.fromarray(pixels).save(buffer, "PNG")
        yield {"id": f"digit-{index:04d}", "image": buffer.getvalue(), "label": str(label)}


def read_breast_cancer() -> Iterator[dict[str, object]]:
    """Yield 569 tumours, malignant or benign, with 30 measures of their cells.

    Source: UCI, Wolberg, Mangasarian, Street and Street 1993.
    """
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    for index, (measures, label) in enumerate(zip(data.data, data.target, strict=True)):
        cells = [str(measure) for measure in measures.tolist()]
        yield {
            "id": f"tumor-{index:03d}",
            "label": str(data.target_names[label]),
            **dict(zip(names, cells, strict=True)),
        }


READERS = {
    "botocore": read_botocore_operations,
    "sklearn.breast_cancer": read_breast_cancer,
    "sklearn.digits": read_digits,
}
