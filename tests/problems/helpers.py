"""Recipes of a regression and of a multilabel problem."""

DIABETES = """name: diabetes
modality: tabular
problem: regression
ingest: {kind: files, path: source.csv}
train: {batch_size: 32, hidden_sizes: [16], epochs: 60, learning_rate: 0.003, dropout: 0.0}
evaluate: {resamples: 200}
gate:
  - {rule: floor, metric: r2, bound: 0.3}
  - {rule: baseline, margin: 0.0}
  - {rule: champion, margin: 5.0}
"""
OPERATIONS = """name: operations
modality: text
problem: multilabel
ingest: {kind: files, path: source.csv}
columns: {id: id}
clean: {rules: [html, white_space, exact_duplicates]}
train: {epochs: 1, max_length: 32}
evaluate: {resamples: 200}
gate:
  - {rule: floor, metric: micro_f1, bound: 0.3}
  - {rule: champion, metric: subset_accuracy, margin: 0.2}
"""
