"""Data that an installed package carries: the documentation of AWS API operations in botocore, scikit-learn's digits and tumours."""

import importlib.metadata
import io
from collections.abc import Iterator

import pyarrow as pa

from tasks.recipe.ingest import PackageSource
from tasks.sources.base import RowBatch, SourcePartition


def iter_partitions(source: PackageSource) -> Iterator[SourcePartition]:
    distribution = "scikit-learn" if source.name.startswith("sklearn.") else source.name
    yield SourcePartition(
        source.name,
        importlib.metadata.version(distribution),
        lambda: [RowBatch(source.name, pa.Table.from_pylist(list(READERS[source.name]())))],
    )


def read_botocore_operations() -> Iterator[dict[str, object]]:
    """One row per operation: id `service.Operation`, service, operation, and its documentation as HTML."""
    import botocore.loaders

    loader = botocore.loaders.Loader()
    for service in sorted(loader.list_available_services("service-2")):
        for name, operation in sorted(
            loader.load_service_model(service, "service-2")["operations"].items()
        ):
            yield {
                "id": f"{service}.{name}",
                "service": service,
                "operation": name,
                "text": operation.get("documentation", ""),
            }


def read_digits() -> Iterator[dict[str, object]]:
    """The 1,797 handwritten digits of 8×8 pixels (UCI, Alpaydin and Kaynak 1998), as greyscale PNG; levels 0 to 16 become 0 to 240."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    for index, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray((pixels * 15).astype("uint8")).save(buffer, "PNG")
        yield {"id": f"digit-{index:04d}", "image": buffer.getvalue(), "label": str(label)}


def read_breast_cancer() -> Iterator[dict[str, object]]:
    """569 tumours, malignant or benign, with 30 measures of their cells (UCI, Wolberg, Mangasarian, Street and Street 1993)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    for index, (cells, label) in enumerate(zip(data.data, data.target, strict=True)):
        yield {
            "id": f"tumor-{index:03d}",
            "label": str(data.target_names[label]),
            **dict(zip(names, map(str, cells.tolist()), strict=True)),
        }


READERS = {
    "botocore": read_botocore_operations,
    "sklearn.breast_cancer": read_breast_cancer,
    "sklearn.digits": read_digits,
}
