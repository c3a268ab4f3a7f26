"""Builds plotly figures from tables of the views. Pure functions without streamlit and SQL.

Text and grid take their colours from the page's theme; marks use colours that can be distinguished
on a light and on a dark background.
"""
