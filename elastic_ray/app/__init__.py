"""The Streamlit app, which shows recorded results, also while a sweep is running.

| file or folder | holds |
|---|---|
| `main.py` | the list of pages, and the results URI |
| `pages/` | a script per page |
| `widgets.py` | what the pages share: selectors, notices, figures with downloads |
| `reader.py` | reads results by the names of views, with a cache |
| `figures/` | functions from tables to plotly figures |

Every filter is kept in the page's address, so that any view can be shared as a link.
"""
