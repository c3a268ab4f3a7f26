"""Starts the app (`streamlit run app.py -- --results URI`); see `elastic_ray/app`."""

from elastic_ray.app.main import main

main()
