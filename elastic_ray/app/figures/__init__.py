"""Plotly figures from tables of the views; pure functions, no streamlit, no SQL.

Text and grid take their colours from the page's theme; marks use colours that are told apart on
a light and on a dark ground.
"""
