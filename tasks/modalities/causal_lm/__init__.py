"""Causal language models: a decoder of transformers that continues a text.

A row is a prompt with the text that follows it, or a text alone. Several texts share a row of
max_length tokens, and attention does not cross from one to the next (best-fit packing, Ding et
al. 2024). A longer text is cut into windows, each of which sees half a window of what came before
it; every token is learnt, and scored, once.
"""

from tasks.modalities.base import Modality
from tasks.modalities.causal_lm.ngram_baseline import predict_baseline
from tasks.modalities.causal_lm.predictor import CausalLmPredictor
from tasks.modalities.causal_lm.trainer import CausalLmPretrainer, CausalLmTrainer

MODALITY = Modality(CausalLmTrainer, CausalLmPredictor, predict_baseline, CausalLmPretrainer)
