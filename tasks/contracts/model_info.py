"""The description of an exported model: what is needed to serve, judge and continue it."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from tasks.contracts.base import Contract, Record


class NumberColumn(Record):
    """A column of a table that becomes a standardised number."""

    kind: Literal["number"] = "number"
    name: str
    median: float = Field(description="Stands in for missing cells.")
    mean: float
    std: float
    has_missing: bool = Field(description="Whether a second feature flags missing cells.")


class CategoryColumn(Record):
    """A column of a table that becomes one feature for each frequent category."""

    kind: Literal["category"] = "category"
    name: str
    values: list[str | None] = Field(description="The categories; None stands for missing cells.")


Column = Annotated[NumberColumn | CategoryColumn, Field(discriminator="kind")]


class InputRecord(Record):
    """How a model reads a row.

    Attributes:
        SERVING_FILES: The files that reading a row needs, beside those that each model has.
    """

    SERVING_FILES: ClassVar[frozenset[str]] = frozenset()


class TextInput(InputRecord):
    """How a classifier of texts reads a text."""

    SERVING_FILES: ClassVar[frozenset[str]] = frozenset({"tokenizer.json", "tfidf.safetensors"})

    modality: Literal["text"] = "text"
    pooling: Literal["cls", "mean"]
    max_length: int = Field(description="Tokens after which a text is cut.")
    pad_id: int


class CausalLmInput(InputRecord):
    """How a causal language model reads a prompt and the text that follows it."""

    SERVING_FILES: ClassVar[frozenset[str]] = frozenset({"tokenizer.json"})

    modality: Literal["causal_lm"] = "causal_lm"
    max_length: int = Field(description="Tokens of a window.")
    bos_id: int = Field(description="The token before each text.")
    eos_id: int = Field(description="The token after each text.")
    kv_cache_shape: tuple[int, int, int, int] = Field(
        description="Of each cached token: layers, keys and values (2), heads, head size."
    )


class ImageInput(InputRecord):
    """What images a classifier reads."""

    modality: Literal["image"] = "image"
    shape: tuple[int, int, int] = Field(description="Channels, height, width.")
    resize: Literal["pad", "crop", "stretch"] | None = Field(
        default=None, description="How an image of another size is brought to this one."
    )


class TabularInput(InputRecord):
    """How a row of a table becomes features."""

    modality: Literal["tabular"] = "tabular"
    columns: list[Column]


# What loads the model's folder outside of Millrace, with the logits of the exported network:
# a class of transformers, or sentence-transformers.
LoadedBy = Literal[
    "AutoModelForSequenceClassification", "AutoModelForCausalLM", "SentenceTransformer"
]

ModelInput = Annotated[
    TextInput | CausalLmInput | ImageInput | TabularInput, Field(discriminator="modality")
]


class TrainingStart(Record):
    """What a training started from, or whom it learnt from: a champion, or the reason why not."""

    champion: str | None = Field(default=None, description="The champion's version.")
    base: str | None = None
    reason: str | None = None


INT8_STEP = "weights in 8 bits"  # the name of the step of compression


class CompressionStep(Record):
    """What a model achieved on the validation split after a step of its compression."""

    model: str
    bytes: int = Field(description="The size of model.onnx.")
    metrics: dict[str, float]


class ModelInfo(Contract):
    """An exported model: `model/model.json`, written once, at the end of training."""

    WRITTEN_BY: ClassVar[str] = "train"

    problem: str
    labels: list[str]
    parameters: int = Field(description="The number of weights.")
    base: str | None = Field(
        default=None, description="The pretrained model that training started from."
    )
    input: ModelInput
    loaded_by: LoadedBy | None = Field(
        default=None,
        description="What loads the folder outside of Millrace with the logits of the network; "
        "None if only model.onnx can be used there.",
    )
    input_signature: JsonValue = Field(
        default=None, description="What the network's inputs stand for, beyond their shapes."
    )
    train: dict[str, JsonValue] = Field(description="The recipe's section `train`, as resolved.")
    warnings: list[str] | None = Field(
        default=None, description="What people should know of how the training rows are read."
    )
    start: TrainingStart | None = None
    teacher: TrainingStart | None = None
    temperature: float | None = Field(
        default=None, description="Divides the network's outputs; None if not calibrated."
    )
    tfidf_weight: float | None = Field(
        default=None, description="The weight of the TF-IDF model; None without one."
    )
    export: list[CompressionStep] | None = Field(
        default=None, description="The model after each step of its compression."
    )

    def to_json(self) -> dict[str, Any]:
        """The content as JSON values, without what does not apply to this model."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def is_quantized(self) -> bool:
        """Whether the exported network's weights are integers of 8 bits."""
        return any(step.model == INT8_STEP for step in self.export or [])

    @property
    def modality(self) -> str:
        """The kind of data that the model reads."""
        return self.input.modality

    def is_needed_to_serve(self, name: str) -> bool:
        """Return whether answering requests needs this file of the model's folder.

        The other files are for later trainings, for audits and for other tools.
        """
        is_network = name.startswith("model.onnx")  # and its external data
        return is_network or name == "model.json" or name in self.input.SERVING_FILES
