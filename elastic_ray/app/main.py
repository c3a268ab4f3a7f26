"""Starts the app: its list of pages, and the URI of the results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import streamlit as st

PAGES = Path(__file__).with_name("pages")
TITLES = {
    "overview": ("Overview", ":material/dashboard:"),
    "curves": ("Curves", ":material/show_chart:"),
    "surfaces": ("Surfaces", ":material/landscape:"),
    "scaling": ("Scaling", ":material/trending_up:"),
    "paths": ("Inverse and forward", ":material/compare_arrows:"),
    "compression": ("Compression", ":material/compress:"),
    "responses": ("Responses", ":material/forum:"),
    "state": ("State", ":material/deployed_code:"),
    "sql": ("SQL", ":material/terminal:"),
}


def results_uri() -> str:
    """Return the value of `--results`, given after `--`; by default the folder `results`."""
    parser = argparse.ArgumentParser(prog="streamlit run app.py --", add_help=False)
    parser.add_argument("--results", default="results")
    args, _ = parser.parse_known_args(sys.argv[1:])
    return str(args.results)


def main() -> None:
    """Configure the app and run the page of the current address."""
    st.set_page_config(
        page_title="elastic_ray", page_icon=str(Path(__file__).with_name("icon.svg")), layout="wide"
    )
    st.session_state["results_uri"] = st.session_state.get("results_uri") or results_uri()
    pages = [
        st.Page(PAGES / f"{name}.py", title=title, icon=icon, url_path=name, default=not i)
        for i, (name, (title, icon)) in enumerate(TITLES.items())
    ]
    current = st.navigation(pages, position="top")
    sweep = st.query_params.get("sweep") or st.session_state.get("sweep")
    st.set_page_config(page_title=" · ".join(filter(None, (current.title, sweep, "elastic_ray"))))
    if st.session_state.get("page_title") != current.title:
        st.session_state["page_title"] = current.title
        st.session_state["unknown_values"] = {}
    current.run()
