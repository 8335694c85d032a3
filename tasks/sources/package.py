"""Data that an installed package carries: the documentation of AWS API operations in botocore, scikit-learn's digits and tumours."""

import hashlib
import importlib.metadata
import io
from collections.abc import Container, Iterator

import pyarrow as pa

from tasks.recipe import Package
from tasks.sources import Partition


def fingerprint(source: Package) -> dict[str, str]:
    distribution = "scikit-learn" if source.name.startswith("sklearn.") else source.name
    return {source.name: importlib.metadata.version(distribution)}


def partitions(source: Package, skip: Container[str] = ()) -> Iterator[Partition]:
    table = READERS[source.name]()
    digest = hashlib.sha256(repr(fingerprint(source)).encode()).hexdigest()
    yield Partition(source.name, digest, table)


def botocore_operations() -> pa.Table:
    """One row per operation: id `service.Operation`, service, operation, and its documentation as HTML."""
    import botocore.loaders

    loader = botocore.loaders.Loader()
    rows = []
    for service in sorted(loader.list_available_services("service-2")):
        model = loader.load_service_model(service, "service-2")
        for name, operation in sorted(model["operations"].items()):
            rows.append({"id": f"{service}.{name}", "service": service, "operation": name, "text": operation.get("documentation", "")})
    return pa.Table.from_pylist(rows)


def digits() -> pa.Table:
    """The 1,797 handwritten digits of 8×8 pixels (UCI, Alpaydin and Kaynak 1998), as greyscale PNG; levels 0 to 16 become 0 to 240."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    rows = []
    for index, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray((pixels * 15).astype("uint8")).save(buffer, "PNG")
        rows.append({"id": f"digit-{index:04d}", "image": buffer.getvalue(), "label": str(label)})
    return pa.Table.from_pylist(rows)


def breast_cancer() -> pa.Table:
    """569 tumours, malignant or benign, with 30 measures of their cells (UCI, Wolberg, Mangasarian, Street and Street 1993)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    rows = []
    for index, (cells, label) in enumerate(zip(data.data, data.target, strict=True)):
        rows.append({"id": f"tumor-{index:03d}", "label": str(data.target_names[label]), **dict(zip(names, map(str, cells.tolist()), strict=True))})
    return pa.Table.from_pylist(rows)


READERS = {"botocore": botocore_operations, "sklearn.breast_cancer": breast_cancer, "sklearn.digits": digits}
