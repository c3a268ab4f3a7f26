"""The Streamlit app: what a sweep left, and leaves while it runs, as pictures.

`main` lists the pages, each a script in `pages/`; `frame` is what pages share; `data` asks the
results, by the names of views, and remembers answers for a while; `figures/` builds plotly figures
from tables, purely. Every filter lives in the address, so that any view can be sent as a link.
"""
