"""Captions of figures and tables, by the name of what they describe. App and report share them."""

from __future__ import annotations

from collections.abc import Mapping

CAPTIONS: Mapping[str, str] = {
    "curves": "Score against negative examples, one line per number of positive examples (the "
    "paper's Figure 3). The dashed line is the baseline, the model before fine-tuning. Bands are "
    "95% intervals over prompts and seeds.",
    "by_parameters": "The same curves by model size, for the same pre-training (the paper's "
    "Figure 4).",
    "by_pretrain": "The same curves by pre-training size, for the same model (the paper's "
    "Figure 5).",
    "surface": "Score by positive and negative examples. Empty cells have no score: they failed or "
    "have not run yet.",
    "surface_3d": "Fitted surfaces, all on one scale. Points are measured scores; the wire mesh is "
    "the baseline. Both horizontal axes are logarithmic; 0 is drawn before the smallest size.",
    "retention": "Retention, the share of the gap that remains: 1 after positive fine-tuning, 0 at "
    "the baseline, negative past it. Empty cells are undefined: they have no score, or the gap is "
    "within noise.",
    "fit": "Fitted surface (lines) and measured scores (points) above, residuals below. Error bars "
    "are 95% intervals of the measured scores.",
    "scaling": "Reversion size, half-life and elasticity index against size, with 95% intervals. "
    "Hollow points have an interval with an unbounded end. If elasticity grows with size, as the "
    "paper claims, fewer negative examples take a larger model back.",
    "code_lengths": "Change in the code lengths of held-out texts with the number of negative "
    "examples, relative to the state without negative examples, in bits per byte. Above 0, texts "
    "take more bits. Bands are 95% intervals over texts and seeds.",
    "faster": "Loss per byte of alignment text divided by the change per byte of pre-training "
    "text, at the smallest negative size of each curve where the loss exceeds noise, with 95% "
    "intervals. An interval without an upper end runs off the top. The dashed line is k, the "
    "paper's claim. Curves without such a size are left out.",
    "compression": "Code lengths of held-out texts in bits per byte (D1 pre-training, D2 positive, "
    "D3 negative), their change relative to l = 0, and the ratio of D2's loss to D1's change, "
    "with 95% intervals over texts and seeds. k = |D1| / |D2| and l = |D3| / |D2|, in examples. "
    "Theory: the same ratio if D3 is distributed like D1. Slopes: D2's normalised slope divided by "
    "D1's, beside the theory's range if D3 is independent.",
    "paths": "Distance of the student from its teacher at the end of training, for each pair of "
    "slices k < l of one fine-tuning run. On the inverse path the state of slice l learns the "
    "answers of slice k; on the forward path the state of slice k learns those of l. Error bars "
    "are 95% intervals over prompts, with the seeds held fixed. Hollow symbols are the values "
    "printed in the paper.",
    "paths_kl": "The same by KL divergence, which excludes the teacher's own entropy. The paper "
    "prints cross-entropies only.",
    "inverse_forward": "Inverse and forward paths between slices of one fine-tuning run (the "
    "paper's Table 1), with 95% intervals. The paper claims that forward - inverse is above 0. "
    "Cross-entropy includes the teacher's own entropy, H(p, q) = H(p, p) + KL(p || q), and the two "
    "paths have different teachers, so it can differ even where there is nothing to learn. KL "
    "excludes that entropy. Intervals and p-values are over prompts, with the seeds held fixed. "
    "p-values are two-sided, from flipping the signs of the differences of prompts, and not "
    "adjusted for the number of tests.",
    "indices": "Quantities measured of each curve, with 95% intervals over prompts and seeds. A "
    "dash is undefined (the note says why); an ellipsis is an unbounded end of an interval, or "
    "with a dash before it the open side of a bound. Sizes are in negative examples, rates in "
    "score per 100 negative examples.",
}
