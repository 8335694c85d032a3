"""The baseline of texts: TF-IDF of words with a linear model."""

from collections.abc import Sequence

from tasks.problems.base import Problem, Targets
from tasks.statistics.array_types import Floats

IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff"
# A word, or one ideograph: Chinese and Japanese have no blanks between words.
WORD_PATTERN = rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]{{2,}}"
INVERSE_REGULARIZATION = 10
MIN_ROWS_TO_DROP_RARE_WORDS = 5000  # with more rows a word has to be in two of them


def predict_baseline(
    train: Sequence[str], targets: Targets, rows: Sequence[str], problem: Problem
) -> Floats:
    """Predict with a linear model on words and pairs of words, fitted on `train`.

    Returns the answers for `rows`, `[rows, width]`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2 if len(train) > MIN_ROWS_TO_DROP_RARE_WORDS else 1,
        token_pattern=WORD_PATTERN,
    )
    model = make_pipeline(vectorizer, problem.build_linear_baseline(INVERSE_REGULARIZATION))
    model.fit(list(train), targets)
    return problem.predict_with(model, list(rows))
