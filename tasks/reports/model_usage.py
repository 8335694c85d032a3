"""How a model's folder is used outside of Millrace: code for its card, and what to know."""

from dataclasses import dataclass

from tasks.contracts.model_info import LoadedBy, ModelInfo

LIBRARIES: dict[LoadedBy, str] = {  # as the hub names them
    "AutoModelForCausalLM": "transformers",
    "AutoModelForSequenceClassification": "transformers",
    "SentenceTransformer": "sentence-transformers",
}
EXAMPLES: dict[LoadedBy, str] = {
    "AutoModelForCausalLM": """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
tokens = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=100)
text = tokenizer.decode(tokens[0], skip_special_tokens=True)
""",
    "AutoModelForSequenceClassification": """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder)
inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
outputs = model(**inputs).logits
""",
    "SentenceTransformer": """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(folder)
outputs = model.encode(texts, convert_to_tensor=True)  # the head is its last module
""",
}
ONNX_EXAMPLE = """\
import onnxruntime

session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
print([(value.name, value.shape) for value in session.get_inputs()])
"""
ANSWERS = {  # what becomes of the outputs
    "classification": "Its probabilities are softmax(outputs / {temperature:g}).",
    "multilabel": "Its probabilities are sigmoid(outputs / {temperature:g}).",
    "regression": "Its outputs are in the target's unit.",
    "language": "Its outputs are the logits of the next token.",
}


@dataclass(frozen=True)
class ModelUsage:
    """How a model is used: an example of code, and sentences about what it gives."""

    library: str
    example: str
    notes: list[str]


def describe_usage(info: ModelInfo) -> ModelUsage:
    """Describe how the model's folder is used without Millrace."""
    temperature = 1.0 if info.temperature is None else info.temperature
    notes = [ANSWERS[info.problem].format(temperature=temperature)]
    if info.loaded_by == "SentenceTransformer":
        notes.append(
            "`AutoModelForSequenceClassification` cannot give these outputs: its class for this "
            "encoder pools the tokens in another way."
        )
    if info.tfidf_weight:
        notes.append(
            f"Millrace adds {info.tfidf_weight:g} times the outputs of the linear model in "
            "`tfidf.safetensors`; neither model.onnx nor model.safetensors has them."
        )
    if info.is_quantized:
        notes.append(
            "model.onnx has weights of 8 bits, and was judged with them; model.safetensors has "
            "those of 32 bits, so the outputs differ in the second or third digit."
        )
    library = LIBRARIES[info.loaded_by] if info.loaded_by else "onnx"
    example = EXAMPLES[info.loaded_by] if info.loaded_by else ONNX_EXAMPLE
    return ModelUsage(library, example, notes)
