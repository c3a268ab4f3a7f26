"""`python -m elastic_ray.report`: a sweep's figures, tables and one page, fit for a paper.

| file | holds |
|---|---|
| `findings.py` | all that the report says, read and measured once |
| `figures.py`, `scaling_figures.py`, `style.py` | matplotlib figures of it |
| `tables.py` | its tables, and how they are written as CSV, LaTeX and HTML |
| `paths.py`, `compression.py` | the sections on inverse and forward paths, and on code lengths |
| `methods.py`, `caveats.py` | its sentences |
| `page.py` | the HTML page |

Nothing here computes a statistic: that is `elasticity`'s; nor reads a file: that is `results`'.
"""
