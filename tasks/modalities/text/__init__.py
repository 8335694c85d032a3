"""Texts: a pretrained encoder of transformers with a linear head."""

from tasks.modalities.base import Modality
from tasks.modalities.text.baseline import predict_baseline
from tasks.modalities.text.classifier import TextTrainer
from tasks.modalities.text.masked_lm import MaskedLmPretrainer
from tasks.modalities.text.predictor import TextPredictor

MODALITY = Modality(TextTrainer, TextPredictor, predict_baseline, MaskedLmPretrainer)
