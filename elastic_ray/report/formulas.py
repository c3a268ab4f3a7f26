"""The formulas and data of the methods section that are the same for every sweep."""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, str] = {
    "exponential": "floor + (start - floor) exp(-x)",
    "Weibull": "floor + (start - floor) exp(-x^steepness)",
    "Hill": "floor + (start - floor) / (1 + x^steepness)",
    "two exponentials": "floor + (start - floor) (w exp(-x) + (1 - w) exp(-x / ratio))",
    "exponential, then logarithm": "floor + (start - floor) exp(-x) - late log(1 + x)",
    "Hill, then logarithm": "Hill - late log(1 + x^steepness) / steepness",
    "broken line": "start - early min(z, b) - late max(z - b, 0), with "
    "z = log(1 + n / (p / p0)^growth) and b = log(1 + scale)",
}
"""The score that each fitted family gives, by its name in `elasticity.families`."""

FITTED = (
    "Families of fitted surfaces, with x = n / (scale (p / p0)^growth) and p0 the geometric mean "
    "of the positive sizes: "
    + "; ".join(f"{name}: {text}" for name, text in FAMILIES.items())
    + ". start is one value per positive size; the other parameters are shared."
)

OPTIMISER = (
    "Optimiser: AdamW with decoupled weight decay; gradients of micro batches add up in float32 "
    "and are clipped by their norm. The loss is the mean cross-entropy of the answer's tokens and "
    "the end token; tokens of the prompt and of padding are masked. Texts without a prompt are "
    "learnt whole. Every stage starts from its parent's saved weights with a fresh optimiser; "
    "sizes are nested, so that n examples are the first n of one seeded permutation."
)

DATA: Mapping[str, str] = {
    "reviews": "film reviews from a seeded grammar of about 280 words: pre-training texts have "
    "both sentiments in equal parts, positive and negative examples one sentiment each, and "
    "prompts are the beginnings of held-out reviews",
    "imdb": "the IMDb film reviews of Maas et al. (2011): pre-training on unlabelled reviews, "
    "positive and negative examples by their labels, and prompts from held-out reviews",
    "saferlhf": "dialogues of PKU-SafeRLHF: safe answers as positive, unsafe answers as negative "
    "examples",
    "alpaca": "instructions in the format of Alpaca and their answers",
    "truthfulqa": "questions of TruthfulQA, with true and false answers",
}
"""What the data of each bundled task are."""
