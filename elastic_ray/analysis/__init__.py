"""Turns recorded results into measured tables and readable text, for the command, app and report.

| file | holds |
|---|---|
| `measurements.py` | the curves, paths and code lengths of a sweep, read and measured |
| `conclusions.py` | what a sweep answers, in sentences, with the strength of the evidence |
| `dataframes.py` | the same measurements as pandas data frames, for notebooks |
| `labels.py` | names of quantities, axes, distances, models |
| `captions.py` | captions of figures and tables |
| `table_rows.py` | columns and formatted rows of the path and code-length tables |
| `formatting.py` | numbers, intervals and p-values as text |
"""
