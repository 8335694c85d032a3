"""Finds personal data in a text. Nothing is downloaded.

Presidio recognizes forms and checksums; an installed spaCy model recognizes names.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.cleaning import pii_patterns
from tasks.cleaning.pii_patterns import HINT_PATTERNS, SPACY_LABELS
from tasks.core.errors import ConfigError, StageError

if TYPE_CHECKING:
    from spacy.language import Language

# The least score of Presidio's. What has the form but no checksum, and could as well be
# something else, scores less.
MIN_SCORE = 0.4
# Regions of telephone numbers that are written without their country's code.
PHONE_REGIONS = (
    "US", "GB", "DE", "FR", "IL", "IN", "CA", "BR", "AU", "CN", "ES", "IT", "JP", "MX", "NL",
)  # fmt: skip
# Presidio's recognizers of national numbers.
ID_RECOGNIZERS = (
    "UsSsn", "UsItin", "CaSin", "UkNino", "Nhs", "UkDrivingLicence", "EsNif", "EsNie",
    "ItFiscalCode", "PlPesel", "DeTaxId", "DeSocialSecurity", "FiPersonalIdentityCode",
    "SePersonnummer", "TrNationalId", "KrRrn", "SgFin",
)  # fmt: skip
MIN_PHONE_DIGITS = 9  # of a number without a form; somewhere almost every shorter one is in use


class Span(NamedTuple):
    """A piece of a text that is personal data with some certainty."""

    score: float
    start: int
    end: int


class PiiFinding(NamedTuple):
    """A piece of a text that is personal data of a kind."""

    start: int
    end: int
    kind: str


SpanFinder = Callable[[str], list[Span]]
AcceptSpan = Callable[[str, Span], bool]


@dataclass(frozen=True)
class Recognizer:
    """Finds personal data of one kind."""

    kind: str
    hint: str  # a pattern without which a text holds nothing for this recognizer
    find_spans: SpanFinder


class PresidioLogHandler(logging.Handler):
    """Ends the stage if Presidio gives up on a text, which would be let through.

    Other messages are dropped, because they quote values.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Raise a StageError for a timeout."""
        if "timed out" in str(record.msg):
            raise StageError(
                "pii: a text took longer than 60 s to search: put `length` with a smaller max "
                "before `pii` in clean.rules."
            )


@cache
def load_recognizers(kinds: frozenset[str]) -> list[Recognizer]:
    """Load the recognizers of these kinds.

    Presidio takes seconds to import, so this is called only once a text has a hint.
    """
    names = sorted(kinds & SPACY_LABELS.keys())
    recognizers = [Recognizer(kind, HINT_PATTERNS[kind], build_name_finder(kind)) for kind in names]
    kinds_with_form = sorted(kinds - SPACY_LABELS.keys())
    if not kinds_with_form:
        return recognizers
    divert_presidio_log()
    for kind in kinds_with_form:
        accept = is_not_version if kind == "ip" else accept_any
        for recognizer in build_presidio_recognizers(kind):
            finder = build_pattern_finder(recognizer, accept)
            recognizers.append(Recognizer(kind, HINT_PATTERNS[kind], finder))
    if "phone" in kinds:
        recognizers.append(build_phone_number_recognizer())
    return recognizers


def divert_presidio_log() -> None:
    """Send Presidio's log to our handler alone."""
    import presidio_analyzer  # noqa: F401  sets up its log

    log = logging.getLogger("presidio-analyzer")
    log.propagate = False
    log.handlers = [PresidioLogHandler(logging.WARNING)]


def build_presidio_recognizers(kind: str) -> list[Any]:
    """Build Presidio's recognizers of a kind, in the form in which they serve us."""
    import presidio_analyzer.predefined_recognizers as presidio
    from presidio_analyzer import Pattern, PatternRecognizer

    if kind == "id":
        national = [getattr(presidio, f"{name}Recognizer")() for name in ID_RECOGNIZERS]
        pan_patterns = presidio.InPanRecognizer.PATTERNS[:1]
        return [*national, presidio.InPanRecognizer(patterns=pan_patterns)]
    phone = Pattern("grouped", pii_patterns.PHONE_PATTERN, MIN_SCORE)
    iban_flags = int(re.DOTALL | re.MULTILINE | re.IGNORECASE)
    url_patterns = presidio.UrlRecognizer.PATTERNS[:2]
    builders = {
        "email": build_email_recognizer,
        "phone": partial(PatternRecognizer, "PHONE_NUMBER", patterns=[phone]),
        "card": presidio.CreditCardRecognizer,
        "iban": partial(presidio.IbanRecognizer, regex_flags=iban_flags),
        "ip": presidio.IpRecognizer,
        "url": partial(presidio.UrlRecognizer, patterns=url_patterns),
    }
    return [builders[kind]()]


def build_email_recognizer() -> Any:
    """Build a recognizer of addresses that knows the public suffixes."""
    import presidio_analyzer.predefined_recognizers as presidio
    import tldextract

    # The suffixes that the package carries; no list is fetched.
    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Email(presidio.EmailRecognizer):  # type: ignore[misc]
        def validate_result(self, pattern_text: str) -> bool | None:
            """Be certain of a public suffix, and refuse what is no name, as in `react@18.2`.

            A name inside a company's network keeps the pattern's score.
            """
            if suffixes(pattern_text).fqdn:
                return True
            last_label = pattern_text.rsplit(".", 1)[-1]
            return None if last_label.isalpha() else False

    return Email()


def build_phone_number_recognizer() -> Recognizer:
    """Build a recognizer of numbers without a form, by the numbering plans of regions."""
    import presidio_analyzer.predefined_recognizers as presidio

    recognizer = presidio.PhoneRecognizer(supported_regions=PHONE_REGIONS, leniency=1)
    hint = pii_patterns.build_digits_pattern(MIN_PHONE_DIGITS, r"[^\w]{0,2}")
    return Recognizer("phone", hint, build_pattern_finder(recognizer, is_long_number))


def build_pattern_finder(recognizer: Any, accept: AcceptSpan) -> SpanFinder:
    """Return a function that lists what one of Presidio's recognizers finds.

    A few of its patterns match pieces of a longer word or number; these are left out.
    """

    def find_spans(text: str) -> list[Span]:
        spans = []
        for result in recognizer.analyze(text, recognizer.supported_entities, None):
            span = Span(result.score, result.start, result.end)
            if is_certain(text, span) and accept(text, span):
                spans.append(span)
        return spans

    return find_spans


def is_certain(text: str, span: Span) -> bool:
    """Tell whether a span is certain enough, and begins and ends where a word does."""
    if span.score < MIN_SCORE:
        return False
    return not (is_inside_word(text, span.start) or is_inside_word(text, span.end))


def is_inside_word(text: str, position: int) -> bool:
    """Tell whether the characters before and at a position belong together."""
    if position == 0:
        return False
    return text[position - 1 : position].isalnum() and text[position : position + 1].isalnum()


def accept_any(text: str, span: Span) -> bool:  # noqa: ARG001  the signature of AcceptSpan
    """Accept every span."""
    return True


def is_not_version(text: str, span: Span) -> bool:
    """Tell whether an IP address is not a part of a longer version number."""
    goes_on = re.match(r"\.\d", text[span.end : span.end + 2])
    began_before = re.search(r"\d\.$", text[max(0, span.start - 2) : span.start])
    return not goes_on and not began_before


def is_long_number(text: str, span: Span) -> bool:
    """Tell whether a number is long enough for a telephone's, and no sum."""
    value = text[span.start : span.end]
    n_digits = sum(letter.isdigit() for letter in value)
    is_sum = re.search(r"\d[ ]?[/+*~]|\d - \d|\.\.", value)
    return n_digits >= MIN_PHONE_DIGITS and not is_sum


def build_name_finder(kind: str) -> SpanFinder:
    """Return a function that lists the names that a spaCy model finds.

    Raises:
        ConfigError: No spaCy model is installed.
    """
    model = load_spacy_model()
    labels = SPACY_LABELS[kind]

    def find_spans(text: str) -> list[Span]:
        entities = [entity for entity in model(text).ents if entity.label_ in labels]
        return [Span(MIN_SCORE, entity.start_char, entity.end_char) for entity in entities]

    return find_spans


@cache
def load_spacy_model() -> "Language":
    """Load an installed spaCy model, an English one if there is one.

    Raises:
        ConfigError: No spaCy model is installed.
    """
    import spacy

    models = sorted(spacy.util.get_installed_models())
    if not models:
        raise ConfigError(
            "pii.kinds: person and place need a spaCy model, and none is installed: "
            "run `python -m spacy download en_core_web_sm`, or leave them out."
        )
    english = [name for name in models if name.startswith("en_")]
    return spacy.load((english or models)[0])


def find_pii(text: str, kinds: frozenset[str]) -> list[PiiFinding]:
    """Find personal data of these kinds, in the order of the text.

    Overlapping spans are one finding, of the kind that is most certain, then longest, then
    first. Words also end where letters of a script without spaces begin.
    """
    spaced = pii_patterns.UNSPACED_LETTERS.sub("。", text)
    spans: list[tuple[Span, str]] = []
    for recognizer in load_recognizers(kinds):
        if not re.search(recognizer.hint, text):
            continue
        searched = text if recognizer.kind in SPACY_LABELS else spaced
        spans.extend((span, recognizer.kind) for span in recognizer.find_spans(searched))
    groups = group_overlapping(spans)
    return [join_spans(group) for group in groups]


def group_overlapping(spans: list[tuple[Span, str]]) -> list[list[tuple[Span, str]]]:
    """Group spans that overlap, directly or by way of others; sorted by position."""
    groups: list[list[tuple[Span, str]]] = []
    group_end = 0
    for span, kind in sorted(spans, key=lambda item: (item[0].start, item[0].end, item[1])):
        if not groups or span.start >= group_end:
            groups.append([])
            group_end = span.end
        groups[-1].append((span, kind))
        group_end = max(group_end, span.end)
    return groups


def join_spans(group: list[tuple[Span, str]]) -> PiiFinding:
    """Join overlapping spans to one finding."""

    def rank(item: tuple[Span, str]) -> tuple[float, int, int, str]:
        span, kind = item
        return -span.score, span.start - span.end, span.start, kind

    _, best_kind = min(group, key=rank)
    start = min(span.start for span, _ in group)
    end = max(span.end for span, _ in group)
    return PiiFinding(start, end, best_kind)
