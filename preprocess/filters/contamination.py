"""No document that has words in a row of a text that models are tested on (Brown et al. 2020, appendix C)."""

from dataclasses import dataclass

from preprocess.config import DecontaminateConfig
from preprocess.evaluation import Ngrams
from preprocess.filters.length import Refusal
from preprocess.records import Unit


@dataclass(frozen=True)
class Contamination:
    """The n-grams of the evaluation files, and what to call them."""

    config: DecontaminateConfig
    ngrams: Ngrams
    files: list[Unit]

    def refuse(self, text: str) -> Refusal | None:
        """Where a text has n words of an evaluation text; None when it has not."""
        n = self.config.ngram
        shared = self.ngrams.first_in(text, n)
        if shared is None:
            return None
        place = self.files[shared.file].name + (f", line {shared.line}" if shared.line else "")
        found = f"words {shared.word + 1} to {shared.word + n} are in {place}; expected no {n} words in a row of it"
        return "contaminated", found
