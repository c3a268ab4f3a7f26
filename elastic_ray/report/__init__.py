"""The report: figures, tables and one HTML page of a sweep, for a paper.

| file | holds |
|---|---|
| `__main__.py` | the command `python -m elastic_ray.report` |
| `findings.py` | everything the report shows, read and measured once |
| `curve_figures.py`, `surface_figures.py`, `scaling_figures.py` | matplotlib figures |
| `style.py` | what the figures share: axes, colours, legends, saving |
| `tables.py`, `robustness_tables.py` | the tables, as values of `table.py` |
| `table_files.py` | their CSV, LaTeX and HTML form |
| `paths.py`, `compression.py` | the sections on inverse and forward paths, and on code lengths |
| `methods.py`, `caveats.py` | the sentences of these sections |
| `abstract.py`, `formulas.py` | the abstract; formulas and data of the methods |
| `page.py`, `latex.py` | the HTML page and the LaTeX document |

The report computes no statistic, which is for `elasticity` and `theory`, and reads no file, which
is for `results`.
"""
