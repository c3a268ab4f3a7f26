"""The paper's compression theory in numbers (sections 2.2, 3.1, 3.2 and appendix A).

This package is pure and needs only numpy, scipy and mpmath. The figures need matplotlib, which is
imported when they are drawn.

| to compute | use |
|---|---|
| a response tree, its pruning (3.4, 3.5) | `Responses`, `read_responses`, `MarkovSource`, `ResponseTree` |
| code lengths: ideal, Huffman, arithmetic (3.7, 3.8) | `code_lengths`, `huffman_code`, `ideal_code_length`, `segmented_code_length` |
| joint trees and rates (3.10-3.12) | `joint_tree`, `compression_rates`, `normalised_rates`, `rates_on_trees`; `normalise_rates` for measured rates |
| the continuum (A.6) under Pareto masses (A.8) | `rates_by_quadrature`, `rates_by_monte_carlo`, `rates_on_finite_trees` |
| closed forms and the paper's limits (57-93) | the module `limits` |
| Theorem 3.13 on a grid | the module `verdict`, and `python -m elastic_ray.theory verdict` |
| a lossless code from any sequence of probabilities | `FrequencyTable`, `Encoder`, `Decoder`, `encode`, `decode` |
| the code lengths that a sweep measured | `gather_code_lengths`, `measure_code_lengths`, `answer_question`, `curve_rows` |

Code lengths are in bits. Savings in the continuum are in nats. Normalised rates have no unit.
"""  # noqa: E501 - a row of the table is one line

from __future__ import annotations

from .answer import (
    QUESTION,
    CodeLengthCurve,
    answer_question,
    curve_rows,
    first_clear_point,
    times_faster,
)
from .arithmetic import CodingError, Decoder, Encoder, FrequencyTable, decode, encode
from .code_length import CodeLengths, code_lengths, ideal_code_length, segmented_code_length
from .finite_tree import rates_on_finite_trees
from .huffman import HuffmanCode, huffman_code
from .joint import (
    compression_rates,
    cross_entropies,
    joint_tree,
    normalise_rates,
    normalised_rates,
    rates_on_trees,
)
from .measured import MeasuredError, gather_code_lengths, measure_code_lengths
from .monte_carlo import rates_by_monte_carlo
from .pareto import LawError, Pareto
from .quadrature import rates_by_quadrature
from .rates import Rates, rates_from_savings
from .responses import MarkovSource, ResponseError, Responses, read_responses
from .tree import ResponseTree, TreeError

__all__ = [
    "QUESTION",
    "CodeLengthCurve",
    "CodeLengths",
    "CodingError",
    "Decoder",
    "Encoder",
    "FrequencyTable",
    "HuffmanCode",
    "LawError",
    "MarkovSource",
    "MeasuredError",
    "Pareto",
    "Rates",
    "ResponseError",
    "ResponseTree",
    "Responses",
    "TreeError",
    "answer_question",
    "code_lengths",
    "compression_rates",
    "cross_entropies",
    "curve_rows",
    "decode",
    "encode",
    "first_clear_point",
    "gather_code_lengths",
    "huffman_code",
    "ideal_code_length",
    "joint_tree",
    "measure_code_lengths",
    "normalise_rates",
    "normalised_rates",
    "rates_by_monte_carlo",
    "rates_by_quadrature",
    "rates_from_savings",
    "rates_on_finite_trees",
    "rates_on_trees",
    "read_responses",
    "segmented_code_length",
    "times_faster",
]
